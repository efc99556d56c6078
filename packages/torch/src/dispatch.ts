/** Between typed functions and the addon's one call: operator look-up, tensors to handles, handles to tensors. */
import { native, torchVersion, type Handle } from "./native.ts";
import { TorchError } from "./errors.ts";
import { Tensor } from "./tensor.ts";

export type Scalar = number | boolean | bigint;

/** An operator of libtorch's dispatcher, looked up when it is first used. */
export class Operator {
  readonly name: string;
  readonly overload: string;
  private at = -2;

  constructor(name: string, overload: string) {
    this.name = name;
    this.overload = overload;
  }

  /** Whether the loaded libtorch has it. */
  get exists(): boolean {
    if (this.at === -2) this.at = native.findOp(this.name, this.overload);
    return this.at >= 0;
  }

  get index(): number {
    if (this.at >= 0) return this.at;
    if (!this.exists) {
      throw new TorchError(
        "NO_OPERATOR",
        `libtorch ${torchVersion.join(".")} has no operator ${this.name}${this.overload && `.${this.overload}`}: use a newer one (see docs/design/engine.md)`,
      );
    }
    return this.at;
  }
}

/** The handle of a live tensor; anything else is an error that names the argument. */
export function h(t: Tensor, what: string): Handle {
  if (!(t instanceof Tensor)) throw new TorchError("NOT_A_TENSOR", `${what}: expected a Tensor, got ${t === null ? "null" : typeof t}`);
  if (t.handle === 0)
    throw new TorchError("DISPOSED", `${what}: the tensor was disposed (freed by dispose(), a "using" block or the scope it was made in)`);
  return t.handle;
}

export const hOptional = (t: Tensor | null | undefined, what: string): Handle | null | undefined =>
  t === null || t === undefined ? t : h(t, what);

export function hList(ts: readonly (Tensor | null)[], what: string): (Handle | null)[] {
  if (!Array.isArray(ts)) throw new TorchError("NOT_A_TENSOR", `${what}: expected an array of Tensors`);
  return ts.map((t) => (t === null ? null : h(t, what)));
}

export const wrap = (handle: unknown): Tensor => Tensor.fromHandle(handle as Handle);
export const wrapList = (handles: unknown): Tensor[] => (handles as Handle[]).map((x) => Tensor.fromHandle(x));
export const wrapOptional = (handle: unknown): Tensor | null => (handle === null ? null : wrap(handle));
