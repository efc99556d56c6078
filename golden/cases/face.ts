/** Faces: alignment, crops, paste-back, SCRFD's decoding, parsing, masks. */
import { readdirSync } from "node:fs";
import { fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import {
  alignFace,
  BiSeNet,
  decodeScrfd,
  maskOfLabels,
  partsOfLabels,
  pasteBack,
  plateMask,
  scrfdInput,
  scrfdStrides,
  SoftErosion,
  type FivePoints,
  type TemplateName,
} from "@make-your-anchor/face";
import { readImage, warpAffine, type Affine } from "@make-your-anchor/media";
import type { GoldenCase } from "../case.ts";

/** Of pictures: how far off they may be on average, and anywhere. */
interface PictureTolerance {
  mean_abs: number;
  max: number;
}

function comparePictures(g: GoldenCase, name: string, actual: Uint8Array, wanted: Uint8Array, { mean_abs, max }: PictureTolerance): void {
  if (actual.length !== wanted.length) return g.expect(name, false, `expected ${wanted.length} bytes, got ${actual.length}`);
  let [sum, worst] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    const d = Math.abs(actual[i] - wanted[i]);
    sum += d;
    worst = Math.max(worst, d);
  }
  const mean = sum / wanted.length;
  const ratio = Math.max(mean / mean_abs, worst / max);
  g.note(
    name,
    [wanted.length],
    { abs: max },
    worst,
    ratio,
    `mean difference ${mean.toFixed(4)} (of ${mean_abs}), worst ${worst} (of ${max})`,
  );
}

const templateNames: Record<string, TemplateName> = { ffhq: "ffhq", large_ffhq: "large_ffhq", arc: "arcface" };
/** `ffhq512` → FFHQ's template for 512. */
function templateOf(name: string): { template: TemplateName; size: number } {
  const m = /^([a-z_]+?)(\d+)$/.exec(name);
  if (!m || !templateNames[m[1]]) throw new Error(`the template ${name} is not known`);
  return { template: templateNames[m[1]], size: Number(m[2]) };
}

export async function faceAlign(g: GoldenCase): Promise<void> {
  const flat = scope(() => g.input("landmarks").to("float64").data()) as Float64Array;
  const faces: FivePoints[] = Array.from({ length: flat.length / 10 }, (_, n) =>
    Array.from({ length: 5 }, (_, i): [number, number] => [flat[n * 10 + 2 * i], flat[n * 10 + 2 * i + 1]]),
  );
  const matrixOf = (name: string, n: number): Affine => {
    const { template, size } = templateOf(name);
    return alignFace(faces[n], size, template)!.matrix;
  };
  for (const output of g.outputNames.filter((n) => n.endsWith(".matrix"))) {
    const name = output.slice(0, -".matrix".length);
    const { template, size } = templateOf(name);
    const found = faces.map((points) => alignFace(points, size, template)!);
    g.check(
      output,
      found.flatMap((f) => [...f.matrix]),
      "matrix",
    );
    g.check(
      `${name}.template`,
      found.map((f) => f.template),
      "template",
    );
  }
  const tolerance = g.json.tolerance as Record<"crop" | "pasted", PictureTolerance>;
  const image = await readImage(g.path("image.png"));
  for (const file of readdirSync(g.folder).sort()) {
    const crop = /^crop_(.+)_(\d+)\.png$/.exec(file);
    const pasted = /^pasted_(\d+)\.png$/.exec(file);
    if (crop) {
      const { size } = templateOf(crop[1]);
      const made = warpAffine(image, matrixOf(crop[1], Number(crop[2])), size, size);
      comparePictures(g, `crop.${crop[1]}.${crop[2]}`, made.data, (await readImage(g.path(file))).data, tolerance.crop);
    } else if (pasted) {
      const face = await readImage(g.path(`face_${pasted[1]}.png`));
      const matrix = matrixOf(`ffhq${face.width}`, Number(pasted[1]));
      g.check(`paste_mask.${pasted[1]}`, plateMask(matrix, face, image), "paste_mask");
      const made = pasteBack(image, face, matrix);
      comparePictures(g, `pasted.${pasted[1]}`, made.data, (await readImage(g.path(file))).data, tolerance.pasted);
    }
  }
}

export async function scrfdDecode(g: GoldenCase): Promise<void> {
  const s = g.json.settings as { canvas: number[]; score_threshold: number; nms_iou: number };
  for (const output of g.outputNames.filter((n) => n.endsWith(".boxes"))) {
    const name = output.slice(0, -".boxes".length);
    const frame = await readImage(g.path(`${name}.png`));
    const side = s.canvas[0];
    const { blob, scale } = scrfdInput(frame, side);
    const sparse = scope(() => fromData(blob, [3, side, side]).slice(1, 0, null, 8).slice(2, 0, null, 8).floats());
    g.check(`${name}.blob_sub`, sparse, "blob_sub");
    const faces = decodeScrfd(
      scrfdStrides.map((stride) => ({
        stride,
        scores: g.input(`${name}.score${stride}`).floats(),
        boxes: g.input(`${name}.box${stride}`).floats(),
        points: g.input(`${name}.kps${stride}`).floats(),
      })),
      scale,
      { side, threshold: s.score_threshold, iou: s.nms_iou },
    );
    g.check(
      output,
      faces.flatMap((f) => [...f.box, f.score]),
      "boxes",
    );
    g.check(
      `${name}.keypoints`,
      faces.flatMap((f) => f.points.flat()),
      "keypoints",
    );
    // The aligner takes the highest score.
    g.check(`${name}.best`, [faces.reduce((best, f, i) => (f.score > faces[best].score ? i : best), 0)], "best");
  }
}

/** The case's own rule: a number for each element of each tensor, by a hash. */
function formulaWeights(names: readonly string[], offset: number, shapes: ReadonlyMap<string, readonly number[]>): Map<string, Tensor> {
  return new Map(
    names.map((name, position) => {
      const shape = shapes.get(name);
      if (!shape) throw new Error(`the network has no tensor ${name}`);
      const add = Math.imul(position + offset + 1, 2246822519) >>> 0;
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => {
        let h = (Math.imul(i, 2654435761) + add) >>> 0;
        h = Math.imul(h ^ (h >>> 15), 2246822519) >>> 0;
        h = (h ^ (h >>> 13)) >>> 0;
        const u = (h / 2 ** 32) * 2 - 1;
        if (shape.length === 4) return u * Math.sqrt(6 / (shape[1] * shape[2] * shape[3]));
        if (name.endsWith("running_var")) return 1 + 0.3 * u;
        if (name.endsWith("running_mean")) return 0.1 * u;
        return name.endsWith(".weight") ? 1 + 0.2 * u : 0.1 * u;
      });
      return [name, fromData(values, shape)];
    }),
  );
}

export function bisenet(g: GoldenCase): void {
  const { tensors, index_offset } = g.json.weights as { tensors: string[]; index_offset: number };
  using net = new BiSeNet();
  const shapes = new Map([...net.namedParameters()].map(([name, p]) => [name, p.shape]));
  const weights = formulaWeights(tensors, index_offset, shapes);
  net.loadStateDict({ keys: () => weights.keys(), shape: (k) => weights.get(k)!.shape, read: (k) => weights.get(k)! }, { what: g.name });
  const { device, dtype } = g.arithmetic;
  net.to(device).to(dtype);
  noGrad(() => {
    const [main, at16, at32] = net.forward(g.input("image"));
    g.check("logits", main, "logits");
    g.check("logits16", at16, "logits");
    g.check("logits32", at32, "logits");
    const labels = Array.from(main.argmax(1).to("cpu").to("int32").data(), Number);
    const wanted = g.output("labels").data();
    const wrong = labels.reduce((n, v, i) => n + (v === Number(wanted[i]) ? 0 : 1), 0);
    const { max_mismatch_fraction } = (g.json.tolerance as Record<string, { max_mismatch_fraction: number }>).labels;
    // Classes that a lower precision brings into a tie may change.
    const allowed = max_mismatch_fraction * wanted.length * (dtype === "float32" ? 1 : 20);
    g.note("labels", g.output("labels").shape, { abs: 0 }, wrong, wrong / allowed, `${wrong} of ${wanted.length} labels differ`);
  });
}

export function faceMask(g: GoldenCase): void {
  const labels = g.input("labels").data() as Uint8Array;
  const [height, width] = g.input("labels").shape;
  g.check("mask", maskOfLabels(labels, { width, height }), "mask");
  g.check("mask_plain", maskOfLabels(labels, { width, height }, "white"), "mask_plain");
  g.check(
    "encode_neck",
    [...partsOfLabels(labels, "wide")].flatMap((p) => [...p]),
    "encode",
  );
  g.check(
    "encode_noneck",
    [...partsOfLabels(labels, "narrow")].flatMap((p) => [...p]),
    "encode",
  );
  const erosion = new SoftErosion();
  for (const output of g.outputNames.filter((n) => n.startsWith("soft_erosion."))) {
    const side = output.split(".")[1];
    const { soft, solid } = erosion.apply(g.input(`soft_in.${side}`).floats(), { width: Number(side), height: Number(side) });
    g.check(output, soft, "soft_erosion");
    const hard = g.output(`soft_erosion_hard.${side}`).data();
    const wrong = solid.reduce((n, v, i) => n + (v === (Number(hard[i]) > 0 ? 1 : 0) ? 0 : 1), 0);
    const { max_mismatch_pixels } = (g.json.tolerance as Record<string, { max_mismatch_pixels: number }>).soft_erosion_hard;
    g.note(`soft_erosion_hard.${side}`, [hard.length], { abs: 0 }, wrong, wrong / max_mismatch_pixels, `${wrong} pixels differ`);
  }
  // SimSwap's masked paste; its channels come out reversed, which is its caller's to know.
  const [swapped, target] = [g.input("blend.swapped").floats(), g.input("blend.target").floats()];
  const [, h, w] = g.input("blend.parts").shape;
  const parts = g.input("blend.parts").floats();
  const n = h * w;
  const sum = Float32Array.from({ length: n }, (_, i) => (parts[i] + parts[n + i]) / 255);
  const { soft } = erosion.apply(sum, { width: w, height: h });
  const blended = Float32Array.from({ length: 3 * n }, (_, k) => {
    const at = (2 - Math.floor(k / n)) * n + (k % n);
    return swapped[at] * soft[k % n] + target[at] * (1 - soft[k % n]);
  });
  g.check("blend.result_bgr", blended, "blend");
}
