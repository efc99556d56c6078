/** Where the arithmetic runs, and in which precision. */
import { cudaDevices, cudaMemory, resetPeakMemory, type DType } from "@make-your-anchor/torch";
import { setupCommand } from "@make-your-anchor/torch/setup-command";
import { AnchorError } from "./errors.ts";

export type Precision = "float32" | "float16" | "bfloat16";
const precisions = ["float32", "float16", "bfloat16"] as const satisfies readonly Precision[];

export interface ComputeOptions {
  /** `"cpu"`, `"cuda"`, `"cuda:N"`, or `"auto"` (default): the first GPU where the engine can use one. The variable `ANCHOR_DEVICE` changes the default. */
  device?: string;
  /**
   * Default float32 on the CPU. On a GPU rendering takes float16 by default and training float32; training in bfloat16 keeps weights and
   * optimiser in float32 and computes in half (autocast).
   */
  precision?: Precision;
}

export interface Compute {
  /** `"cpu"` or `"cuda:N"`. */
  readonly device: string;
  readonly precision: Precision;
}

const misuse = (message: string) => new AnchorError("OPTION", message, { misuse: true });

/**
 * @param use training keeps float32 weights; in float16 its loss is scaled, so that gradients do not vanish
 * @throws {AnchorError} `OPTION` for a device that is not there, with the way to get it
 */
export function chooseCompute(o: ComputeOptions, use: "rendering" | "training"): Compute {
  const asked = o.device ?? process.env.ANCHOR_DEVICE ?? "auto";
  const count = cudaDevices();
  let device: string;
  if (asked === "auto") device = count > 0 ? "cuda:0" : "cpu";
  else if (asked === "cpu") device = "cpu";
  else {
    const m = /^cuda(?::(\d+))?$/.exec(asked);
    if (!m) throw misuse(`device: expected cpu, cuda, cuda:N or auto, got "${asked}"`);
    const index = Number(m[1] ?? 0);
    if (count === 0)
      throw misuse(
        `device ${asked}: this engine sees no CUDA device. It needs an NVIDIA driver and a CUDA libtorch: "LIBTORCH_DOWNLOAD=cu128 ${setupCommand}" fetches one ("anchor doctor" says what is in use)`,
      );
    if (index >= count) throw misuse(`device ${asked}: there are ${count}, cuda:0 to cuda:${count - 1}`);
    device = `cuda:${index}`;
  }
  if (o.precision !== undefined && !precisions.includes(o.precision))
    throw misuse(`precision: expected ${precisions.join(", ")}, got "${String(o.precision)}"`);
  if (o.precision === "float16" && device === "cpu") throw misuse("precision float16 needs a GPU: on the CPU use float32 (or bfloat16)");
  const precision = o.precision ?? (use === "rendering" && device !== "cpu" ? "float16" : "float32");
  return { device, precision };
}

/** What to load a model with for rendering. */
export const loading = (c: Compute): { device: string; dtype: DType } => ({ device: c.device, dtype: c.precision });

/** Peak memory of the GPU since `startPeak`, MiB; null on the CPU and where libtorch cannot tell. */
export function peakGpuMiB(c: Compute): number | null {
  const memory = c.device === "cpu" ? null : cudaMemory(c.device);
  return memory && Math.round(memory.peakReserved / 2 ** 20);
}
export function startPeak(c: Compute): void {
  if (c.device !== "cpu") resetPeakMemory(c.device);
}
