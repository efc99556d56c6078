/** Devices: what is there, how full it is, and arithmetic in half precision where that is safe. */
import { dtypeCode, type DType } from "./dtype.ts";
import { TorchError } from "./errors.ts";
import { native } from "./native.ts";

/** How many CUDA devices this libtorch can use; 0 without a GPU, a driver or a CUDA build. */
export const cudaDevices = (): number => native.cudaDevices();

/** Memory of a CUDA device as libtorch's allocator keeps it, bytes. */
export interface DeviceMemory {
  /** Held by live tensors. */
  readonly allocated: number;
  readonly peakAllocated: number;
  /** Taken from the driver, freed blocks kept for reuse included. */
  readonly reserved: number;
  readonly peakReserved: number;
}

const cudaIndex = (device: string): number => {
  const m = /^cuda(?::(\d+))?$/.exec(device);
  if (!m) throw new TorchError("DEVICE", `expected a CUDA device like "cuda:0", got "${device}"`);
  return Number(m[1] ?? 0);
};

const memory = (device: string, reset: boolean): DeviceMemory | null => {
  const found = native.cudaMemory(cudaIndex(device), reset);
  if (!found) return null;
  const [allocated, peakAllocated, reserved, peakReserved] = found;
  return { allocated, peakAllocated, reserved, peakReserved };
};

/** Null where this libtorch cannot tell (before about 2.9), and without CUDA. */
export const cudaMemory = (device: string): DeviceMemory | null => memory(device, false);

/** Starts the device's peaks anew, at what is held now. */
export const resetPeakMemory = (device: string): void => void memory(device, true);

/** Where a GPU's float32 arithmetic may round its factors to TensorFloat-32's ten bits of mantissa, for speed. */
export interface Tf32 {
  convolutions: boolean;
  /** Of matrices. */
  products: boolean;
}

/**
 * Allows or forbids TF32, for all of the process; libtorch itself begins with convolutions alone. Without a GPU it changes nothing.
 * @returns what was allowed before
 */
export function allowTf32({ convolutions, products }: Tf32): Tf32 {
  const before = native.allowTf32(convolutions, products);
  return { convolutions: before[0], products: before[1] };
}

/**
 * Runs `fn` with matrix products and convolutions on `device` in half precision, and what needs the range (norms, softmax, losses) in
 * float32, by libtorch's own list. Weights stay as they are; their halved copies live until the outermost call ends.
 * `float32` runs `fn` as it is. Float16 gradients of a loss can vanish: scale the loss, or use bfloat16.
 */
export function autocast<T>(device: string, dtype: "float32" | "float16" | "bfloat16", fn: () => T): T {
  if (dtype === "float32") return fn();
  const kind = device === "cpu" ? "cpu" : "cuda";
  const before = native.autocast(kind, dtypeCode(dtype satisfies DType));
  try {
    return fn();
  } finally {
    native.autocast(kind, before);
  }
}
