/** `Tensor`: an n-dimensional array in native memory, with autograd. */
import { native, type Handle } from "./native.ts";
import { dtypeCode, dtypeName, dtypeWidth, typedView, type DType, type TypedArray } from "./dtype.ts";
import { TorchError } from "./errors.ts";
import { noGrad, own, release } from "./scope.ts";
import type { Scalar } from "./dispatch.ts";
import * as ops from "./ops.gen.ts";

export type Operand = Tensor | number;

const isTensor = (x: Operand): x is Tensor => x instanceof Tensor;

/**
 * An array of numbers in libtorch's memory. Shapes broadcast as in torch; every method returns a new tensor but those ending in
 * `_`, which change this one and return it. Freed by `dispose()`, a `using` declaration, or the `scope` it was made in.
 */
export class Tensor {
  /** The addon's handle; 0 once disposed. */
  handle: Handle;
  private facts: { dtype: DType; device: string; shape: readonly number[] } | undefined;

  private constructor(handle: Handle) {
    this.handle = handle;
    own(this);
  }

  /** Takes over a handle the addon returned. */
  static fromHandle(handle: Handle): Tensor {
    return new Tensor(handle);
  }

  /** Frees the native memory; twice is harmless. */
  dispose(): void {
    release(this);
  }
  [Symbol.dispose](): void {
    release(this);
  }
  get disposed(): boolean {
    return this.handle === 0;
  }

  private get meta() {
    if (this.handle === 0)
      throw new TorchError("DISPOSED", 'shape of a disposed tensor (freed by dispose(), a "using" block or its scope)');
    if (this.facts) return this.facts;
    const [code, device, ...shape] = native.meta(this.handle);
    this.facts = { dtype: dtypeName(code), device: device < 0 ? "cpu" : `cuda:${device}`, shape };
    return this.facts;
  }
  get shape(): readonly number[] {
    return this.meta.shape;
  }
  get dtype(): DType {
    return this.meta.dtype;
  }
  /** `"cpu"` or `"cuda:N"`. */
  get device(): string {
    return this.meta.device;
  }
  get dim(): number {
    return this.shape.length;
  }
  get numel(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }
  /** Size along one axis; negative counts from the end. */
  size(axis: number): number {
    const n = this.shape.at(axis);
    if (n === undefined) throw new TorchError("AXIS", `axis ${axis} of a tensor with ${this.dim} axes`);
    return n;
  }

  // --- values -----------------------------------------------------------------------------------------------------------
  /** The values as a typed array of JS's own memory; float16 and bfloat16 are widened to float32. */
  data(): TypedArray {
    return noGrad(() => {
      const temporary: Tensor[] = [];
      const made = (t: Tensor): Tensor => {
        temporary.push(t);
        return t;
      };
      const onCpu = this.device === "cpu" ? ops.detach(this) : this.to("cpu");
      const wide = onCpu.dtype === "float16" || onCpu.dtype === "bfloat16" ? made(onCpu).to("float32") : onCpu;
      const packed = made(ops.contiguous(made(wide)));
      const buffer = new ArrayBuffer(packed.numel * dtypeWidth(packed.dtype));
      native.copyOut(packed.handle, buffer);
      const view = typedView(packed.dtype, buffer);
      for (const t of temporary) t.dispose();
      return view;
    });
  }
  /** The values as float32. */
  floats(): Float32Array {
    if (this.dtype === "float32") return this.data() as Float32Array;
    using t = this.to("float32");
    return t.data() as Float32Array;
  }
  /** The one value of a one-element tensor. */
  item(): number {
    return ops._local_scalar_dense(this);
  }
  /** A view of a contiguous CPU tensor's own memory, to read from or write to; it stays valid as long as it is held. */
  memory(): Uint8Array {
    return new Uint8Array(native.memory(this.handle === 0 ? -1 : this.handle));
  }
  toString(): string {
    return this.handle === 0
      ? "Tensor(disposed)"
      : `Tensor(${this.dtype}[${this.shape.join(", ")}]${this.device === "cpu" ? "" : `, ${this.device}`})`;
  }

  // --- autograd ---------------------------------------------------------------------------------------------------------
  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle);
  }
  /** Turns recording for gradients on or off for a leaf; returns this tensor. */
  requiresGrad_(on = true): this {
    native.requiresGrad(this.handle, on);
    return this;
  }
  /** The accumulated gradient of a leaf, or null. The caller owns the returned tensor. */
  get grad(): Tensor | null {
    const g = native.grad(this.handle);
    return g === null ? null : Tensor.fromHandle(g);
  }
  setGrad(grad: Tensor | null): void {
    native.setGrad(this.handle, grad === null ? null : grad.handle);
  }
  detach(): Tensor {
    return ops.detach(this);
  }

  // --- arithmetic -------------------------------------------------------------------------------------------------------
  add(other: Operand): Tensor {
    return isTensor(other) ? ops.add_Tensor(this, other) : ops.add_Scalar(this, other);
  }
  sub(other: Operand): Tensor {
    return isTensor(other) ? ops.sub_Tensor(this, other) : ops.sub_Scalar(this, other);
  }
  /** `other − this`. */
  rsub(other: number): Tensor {
    return ops.rsub_Scalar(this, other);
  }
  mul(other: Operand): Tensor {
    return isTensor(other) ? ops.mul_Tensor(this, other) : ops.mul_Scalar(this, other);
  }
  div(other: Operand): Tensor {
    return isTensor(other) ? ops.div_Tensor(this, other) : ops.div_Scalar(this, other);
  }
  pow(exponent: number): Tensor {
    return ops.pow_Tensor_Scalar(this, exponent);
  }
  neg(): Tensor {
    return ops.neg(this);
  }
  abs(): Tensor {
    return ops.abs(this);
  }
  exp(): Tensor {
    return ops.exp(this);
  }
  log(): Tensor {
    return ops.log(this);
  }
  sqrt(): Tensor {
    return ops.sqrt(this);
  }
  rsqrt(): Tensor {
    return ops.rsqrt(this);
  }
  square(): Tensor {
    return ops.mul_Tensor(this, this);
  }
  reciprocal(): Tensor {
    return ops.reciprocal(this);
  }
  sin(): Tensor {
    return ops.sin(this);
  }
  cos(): Tensor {
    return ops.cos(this);
  }
  atan2(x: Tensor): Tensor {
    return ops.atan2(this, x);
  }
  tanh(): Tensor {
    return ops.tanh(this);
  }
  sigmoid(): Tensor {
    return ops.sigmoid(this);
  }
  relu(): Tensor {
    return ops.relu(this);
  }
  silu(): Tensor {
    return ops.silu(this);
  }
  /** Exact GELU (error function). */
  gelu(): Tensor {
    return ops.gelu(this);
  }
  leakyRelu(slope = 0.01): Tensor {
    return ops.leaky_relu(this, slope);
  }
  softmax(axis: number): Tensor {
    return ops.softmax_int(this, axis);
  }
  clamp(min: number | null, max: number | null): Tensor {
    return ops.clamp(this, min, max);
  }
  round(): Tensor {
    return ops.round(this);
  }
  maximum(other: Tensor): Tensor {
    return ops.maximum(this, other);
  }
  minimum(other: Tensor): Tensor {
    return ops.minimum(this, other);
  }

  // --- comparison -------------------------------------------------------------------------------------------------------
  eq(other: Operand): Tensor {
    return isTensor(other) ? ops.eq_Tensor(this, other) : ops.eq_Scalar(this, other);
  }
  ne(other: number): Tensor {
    return ops.ne_Scalar(this, other);
  }
  gt(other: Operand): Tensor {
    return isTensor(other) ? ops.gt_Tensor(this, other) : ops.gt_Scalar(this, other);
  }
  ge(other: Operand): Tensor {
    return isTensor(other) ? ops.ge_Tensor(this, other) : ops.ge_Scalar(this, other);
  }
  lt(other: Operand): Tensor {
    return isTensor(other) ? ops.lt_Tensor(this, other) : ops.lt_Scalar(this, other);
  }
  le(other: number): Tensor {
    return ops.le_Scalar(this, other);
  }
  isFinite(): Tensor {
    return ops.isfinite(this);
  }
  /** Same shape and every value equal. */
  equal(other: Tensor): boolean {
    return ops.equal(this, other);
  }

  // --- reductions -------------------------------------------------------------------------------------------------------
  sum(axes?: number | readonly number[], keepdim = false): Tensor {
    return axes === undefined ? ops.sum(this) : ops.sum_dim_IntList(this, asList(axes), keepdim);
  }
  mean(axes?: number | readonly number[], keepdim = false): Tensor {
    return axes === undefined ? ops.mean(this) : ops.mean_dim(this, asList(axes), keepdim);
  }
  /** Unbiased variance when `unbiased`. */
  variance(axes: number | readonly number[], unbiased = true, keepdim = false): Tensor {
    return ops.var_dim(this, asList(axes), unbiased, keepdim);
  }
  max(): Tensor {
    return ops.max(this);
  }
  min(): Tensor {
    return ops.min(this);
  }
  amax(axes: number | readonly number[], keepdim = false): Tensor {
    return ops.amax(this, asList(axes), keepdim);
  }
  amin(axes: number | readonly number[], keepdim = false): Tensor {
    return ops.amin(this, asList(axes), keepdim);
  }
  argmax(axis: number | null = null): Tensor {
    return ops.argmax(this, axis);
  }
  all(): Tensor {
    return ops.all(this);
  }
  any(): Tensor {
    return ops.any(this);
  }
  prod(): Tensor {
    return ops.prod(this);
  }
  cumsum(axis: number): Tensor {
    return ops.cumsum(this, axis);
  }
  cumprod(axis: number): Tensor {
    return ops.cumprod(this, axis);
  }
  /** Euclidean length along `axes` (of everything when left out). */
  norm(axes?: number | readonly number[], keepdim = false): Tensor {
    return ops.linalg_vector_norm(this, 2, axes === undefined ? null : asList(axes), keepdim);
  }

  // --- products ---------------------------------------------------------------------------------------------------------
  matmul(other: Tensor): Tensor {
    return ops.matmul(this, other);
  }
  bmm(other: Tensor): Tensor {
    return ops.bmm(this, other);
  }
  /** Cross product along the last axis. */
  cross(other: Tensor): Tensor {
    return ops.linalg_cross(this, other, -1);
  }

  // --- shape ------------------------------------------------------------------------------------------------------------
  reshape(shape: readonly number[]): Tensor {
    return ops.reshape(this, shape);
  }
  view(shape: readonly number[]): Tensor {
    return ops.view(this, shape);
  }
  flatten(from = 0, to = -1): Tensor {
    return ops.flatten_using_ints(this, from, to);
  }
  permute(axes: readonly number[]): Tensor {
    return ops.permute(this, axes);
  }
  transpose(a: number, b: number): Tensor {
    return ops.transpose_int(this, a, b);
  }
  squeeze(axis: number): Tensor {
    return ops.squeeze_dim(this, axis);
  }
  unsqueeze(axis: number): Tensor {
    return ops.unsqueeze(this, axis);
  }
  expand(shape: readonly number[]): Tensor {
    return ops.expand(this, shape);
  }
  repeat(times: readonly number[]): Tensor {
    return ops.repeat(this, times);
  }
  contiguous(): Tensor {
    return ops.contiguous(this);
  }
  clone(): Tensor {
    return ops.clone(this);
  }
  flip(axes: number | readonly number[]): Tensor {
    return ops.flip(this, asList(axes));
  }
  /** Elements `from` (inclusive) to `to` (exclusive) along an axis, every `step`-th. */
  slice(axis: number, from: number | null, to: number | null = null, step = 1): Tensor {
    return ops.slice_Tensor(this, axis, from, to, step);
  }
  /** One index along an axis, which disappears. */
  select(axis: number, index: number): Tensor {
    return ops.select_int(this, axis, index);
  }
  narrow(axis: number, from: number, length: number): Tensor {
    return ops.narrow(this, axis, from, length);
  }
  /** Rows `index` (int64 `[N]`) along an axis. */
  indexSelect(axis: number, index: Tensor): Tensor {
    return ops.index_select(this, axis, index);
  }
  gather(axis: number, index: Tensor): Tensor {
    return ops.gather(this, axis, index);
  }
  chunk(n: number, axis = 0): Tensor[] {
    return ops.chunk(this, n, axis);
  }
  split(size: number, axis = 0): Tensor[] {
    return ops.split_Tensor(this, size, axis);
  }
  unbind(axis = 0): Tensor[] {
    return ops.unbind_int(this, axis);
  }
  /** Constant padding; `pad` is `[left, right, top, bottom, …]` from the last axis backwards. */
  pad(pad: readonly number[], value = 0): Tensor {
    return ops.constant_pad_nd(this, pad, value);
  }
  maskedFill(mask: Tensor, value: number): Tensor {
    return ops.masked_fill_Scalar(this, mask, value);
  }

  // --- dtype and device -------------------------------------------------------------------------------------------------
  /** Converted to a dtype (`"float16"`) or moved to a device (`"cuda:0"`), keeping the other. The same tensor when nothing changes is a new handle to it. */
  to(target: DType | (string & {})): Tensor {
    if (target === "cpu" || target.startsWith("cuda")) return ops.to_device(this, target, dtypeCode(this.dtype));
    return ops.to_dtype(this, dtypeCode(target as DType));
  }

  // --- in place ---------------------------------------------------------------------------------------------------------
  add_(other: Operand, alpha = 1): this {
    if (isTensor(other)) ops.add__Tensor(this, other, alpha);
    else ops.add__Scalar(this, other, alpha);
    return this;
  }
  sub_(other: Tensor): this {
    ops.sub__Tensor(this, other);
    return this;
  }
  mul_(other: Operand): this {
    if (isTensor(other)) ops.mul__Tensor(this, other);
    else ops.mul__Scalar(this, other);
    return this;
  }
  div_(other: Operand): this {
    if (isTensor(other)) ops.div__Tensor(this, other);
    else ops.div__Scalar(this, other);
    return this;
  }
  clamp_(min: number | null, max: number | null): this {
    ops.clamp_(this, min, max);
    return this;
  }
  copy_(source: Tensor): this {
    ops.copy_(this, source);
    return this;
  }
  fill_(value: Scalar): this {
    ops.fill__Scalar(this, value);
    return this;
  }
  silu_(): this {
    ops.silu_(this);
    return this;
  }
  zero_(): this {
    ops.zero_(this);
    return this;
  }
  /** this += weight · (end − this). */
  lerp_(end: Tensor, weight: number): this {
    ops.lerp__Scalar(this, end, weight);
    return this;
  }
  indexAdd_(axis: number, index: Tensor, source: Tensor): this {
    ops.index_add_(this, axis, index, source);
    return this;
  }
}

const asList = (axes: number | readonly number[]): readonly number[] => (typeof axes === "number" ? [axes] : axes);
