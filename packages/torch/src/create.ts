/** Making tensors: from values, constant, ranges, random by a seeded `Generator`. */
import { native, type Handle } from "./native.ts";
import { dtypeCode, typedView, type DType } from "./dtype.ts";
import { TorchError } from "./errors.ts";
import { Tensor } from "./tensor.ts";
import * as ops from "./ops.gen.ts";

export interface TensorOptions {
  /** Default `float32`. */
  dtype?: DType;
  /** `"cpu"` (default) or `"cuda:N"`. */
  device?: string;
}

type Nested = number | readonly Nested[];

const onDevice = (t: Tensor, device: string | undefined): Tensor => {
  if (device === undefined || device === "cpu") return t;
  const moved = t.to(device);
  t.dispose();
  return moved;
};

/** A tensor holding a copy of `data`, whose element type must be `dtype`'s own (float32 by default); the count must fit `shape`. */
export function fromData(data: NodeJS.TypedArray, shape: readonly number[], options: TensorOptions = {}): Tensor {
  const t = Tensor.fromHandle(native.create(shape, dtypeCode(options.dtype ?? defaultDtype(data))));
  try {
    native.copyIn(t.handle, data);
  } catch (error) {
    t.dispose();
    throw error;
  }
  return onDevice(t, options.device);
}

const defaultDtype = (data: NodeJS.TypedArray): DType => {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Float64Array) return "float64";
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return "uint8";
  if (data instanceof Int32Array) return "int32";
  if (data instanceof BigInt64Array) return "int64";
  if (data instanceof Int8Array) return "int8";
  if (data instanceof Int16Array) return "int16";
  throw new TorchError("DTYPE", `fromData: name the dtype of a ${data?.constructor?.name ?? typeof data}`);
};

/** A tensor from nested arrays of numbers, as `torch.tensor`. */
export function tensor(values: Nested, options: TensorOptions = {}): Tensor {
  const shape: number[] = [];
  for (let v: Nested = values; Array.isArray(v); v = v[0]) shape.push(v.length);
  const flat = (Array.isArray(values) ? values.flat(Number.POSITIVE_INFINITY as 1) : [values]) as number[];
  if (flat.length !== shape.reduce((a, b) => a * b, 1)) throw new TorchError("SHAPE_MISMATCH", "tensor: rows of different lengths");
  const dtype = options.dtype ?? "float32";
  const t = Tensor.fromHandle(
    native.create(shape, dtypeCode(dtype === "bool" ? "uint8" : dtype === "float16" || dtype === "bfloat16" ? "float32" : dtype)),
  );
  const view = typedView(t.dtype, native.memory(t.handle));
  for (let i = 0; i < flat.length; i++) view[i] = t.dtype === "int64" ? BigInt(flat[i]) : flat[i];
  if (t.dtype === dtype) return onDevice(t, options.device);
  const converted = t.to(dtype);
  t.dispose();
  return onDevice(converted, options.device);
}

const options4 = (o: TensorOptions) => [dtypeCode(o.dtype ?? "float32"), null, o.device ?? "cpu"] as const;

export const zeros = (shape: readonly number[], o: TensorOptions = {}): Tensor => ops.zeros(shape, ...options4(o));
export const ones = (shape: readonly number[], o: TensorOptions = {}): Tensor => ops.ones(shape, ...options4(o));
export const full = (shape: readonly number[], value: number, o: TensorOptions = {}): Tensor => ops.full(shape, value, ...options4(o));
export const eye = (n: number, o: TensorOptions = {}): Tensor => ops.eye(n, ...options4(o));
/** `from`, `from + step`, … below `to`. */
export const arange = (from: number, to: number, step = 1, o: TensorOptions = {}): Tensor =>
  ops.arange_start_step(from, to, step, ...options4(o));
export const linspace = (from: number, to: number, steps: number, o: TensorOptions = {}): Tensor =>
  ops.linspace(from, to, steps, ...options4(o));
export const zerosLike = (t: Tensor): Tensor => ops.zeros_like(t);
export const onesLike = (t: Tensor): Tensor => ops.ones_like(t);
/** Uninitialised CPU memory, to be filled through `memory()`. */
export const empty = (shape: readonly number[], dtype: DType = "float32"): Tensor =>
  Tensor.fromHandle(native.create(shape, dtypeCode(dtype)));

/** A seeded source of random numbers: the same seed gives the same numbers on the same kind of device and libtorch. */
export class Generator {
  readonly device: string;
  private handle: Handle;

  /** @param seed a whole number from 0 to 2^53 − 1 */
  constructor(seed: number, device = "cpu") {
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new TorchError("SEED", `seed: expected a whole number from 0 to 2^53 − 1, got ${seed}`);
    this.device = device;
    this.handle = native.createGenerator(seed, device);
    finalizer.register(this, this.handle, this);
  }
  get id(): Handle {
    if (this.handle === 0) throw new TorchError("DISPOSED", "the generator was disposed");
    return this.handle;
  }
  /** Its whole state as bytes (uint8 `[N]`), for a checkpoint. */
  getState(): Uint8Array {
    using state = Tensor.fromHandle(native.generatorState(this.id));
    return state.data() as Uint8Array;
  }
  setState(bytes: Uint8Array): void {
    using state = fromData(bytes, [bytes.length]);
    native.generatorState(this.id, state.handle);
  }
  /** Normal numbers of mean 0 and variance 1. */
  randn(shape: readonly number[], o: TensorOptions = {}): Tensor {
    return ops.randn_generator(shape, this.id, dtypeCode(o.dtype ?? "float32"), null, this.device);
  }
  /** Uniform numbers in [0, 1). */
  rand(shape: readonly number[], o: TensorOptions = {}): Tensor {
    return ops.rand_generator(shape, this.id, dtypeCode(o.dtype ?? "float32"), null, this.device);
  }
  /** Whole numbers in [low, high), int64. */
  randint(low: number, high: number, shape: readonly number[]): Tensor {
    return ops.randint_low_generator(low, high, shape, this.id, dtypeCode("int64"), null, this.device);
  }
  /** A permutation of 0 … n − 1, int64. */
  randperm(n: number): Tensor {
    return ops.randperm_generator(n, this.id, dtypeCode("int64"), null, this.device);
  }
  dispose(): void {
    if (this.handle === 0) return;
    finalizer.unregister(this);
    native.freeGenerator(this.handle);
    this.handle = 0;
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
const finalizer = new FinalizationRegistry<Handle>((handle) => native.freeGenerator(handle));
