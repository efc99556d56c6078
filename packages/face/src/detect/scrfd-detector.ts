/** SCRFD as a detector, by the ONNX file a user brings (InsightFace's are for non-commercial research only). */
import type { RgbImage } from "@make-your-anchor/media";
import { decodeScrfd, scrfdInput, scrfdStrides, type ScrfdDecoding, type ScrfdFace, type ScrfdLevel } from "./scrfd.ts";

/** What is used of onnxruntime's session. */
export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, unknown>): Promise<Record<string, { data: unknown; dims: readonly number[] }>>;
}
interface OnnxRuntime {
  InferenceSession: { create(path: string): Promise<OnnxSession & { release?(): Promise<void> }> };
  Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => unknown;
}

export class FaceError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "FaceError";
    this.code = code;
  }
}

export class ScrfdDetector {
  private readonly session: OnnxSession & { release?(): Promise<void> };
  private readonly tensor: (data: Float32Array, dims: readonly number[]) => unknown;

  /** @param tensor wraps numbers as the session's runtime wants them */
  constructor(session: OnnxSession, tensor: (data: Float32Array, dims: readonly number[]) => unknown) {
    this.session = session;
    this.tensor = tensor;
  }

  /**
   * Opens an SCRFD network with landmarks, like `scrfd_10g_bnkps.onnx`.
   * @throws {FaceError} `NEEDS_ONNX` without onnxruntime-node, `ONNX` when the file is no such network
   */
  static async open(path: string): Promise<ScrfdDetector> {
    // Optional and large: a name in a variable keeps type checks and bundlers from asking for it.
    const name = "onnxruntime-node";
    let runtime: OnnxRuntime;
    try {
      const loaded = (await import(name)) as OnnxRuntime & { default?: OnnxRuntime };
      runtime = loaded.default ?? loaded;
    } catch (cause) {
      throw new FaceError(
        "NEEDS_ONNX",
        `${path}: ONNX networks need the package onnxruntime-node: install it with "npm install onnxruntime-node --ignore-scripts"`,
        { cause },
      );
    }
    try {
      return new ScrfdDetector(await runtime.InferenceSession.create(path), (data, dims) => new runtime.Tensor("float32", data, dims));
    } catch (cause) {
      throw new FaceError("ONNX", `${path}: cannot be opened as an ONNX network (${(cause as Error).message.split("\n")[0]})`, { cause });
    }
  }

  /** Faces in pixels of the frame, best first. */
  async detect(frame: RgbImage, options: ScrfdDecoding = {}): Promise<ScrfdFace[]> {
    const side = options.side ?? 640;
    const { blob, scale } = scrfdInput(frame, side);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: this.tensor(blob, [1, 3, side, side]) });
    // In the network's order: scores of the three strides, then boxes, then points; some exports keep a batch axis.
    const all = this.session.outputNames.map((n) => outputs[n].data as Float32Array);
    const n = scrfdStrides.length;
    if (all.length !== 3 * n)
      throw new FaceError(
        "ONNX",
        `the network has ${all.length} outputs, SCRFD with landmarks has ${3 * n} (scores, boxes and points of three strides): is it another detector, or one without landmarks?`,
      );
    const levels = scrfdStrides.map((stride, i): ScrfdLevel => {
      const [scores, boxes, points] = [all[i], all[n + i], all[2 * n + i]];
      const cells = Math.ceil(side / stride) ** 2 * 2;
      if (scores.length !== cells || boxes.length !== 4 * cells || points.length !== 10 * cells)
        throw new FaceError(
          "ONNX",
          `outputs at stride ${stride}: expected ${cells} scores, ${4 * cells} box and ${10 * cells} point numbers, got ${scores.length}, ${boxes.length} and ${points.length}`,
        );
      return { stride, scores, boxes, points };
    });
    return decodeScrfd(levels, scale, options);
  }
  async close(): Promise<void> {
    await this.session.release?.();
  }
}
