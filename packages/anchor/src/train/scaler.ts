/** Loss scaling: gradients in float16 vanish below 6e-8 unless the loss is multiplied first. */
import { fromData, noGrad, ops, scope, type Parameter, type Tensor } from "@make-your-anchor/torch";

/** As torch.amp.GradScaler: halved after a step whose gradients overflowed, doubled after `growEvery` that did not. */
export class GradScaler {
  scale: number;
  private good = 0;
  private readonly growEvery: number;

  constructor(o: { scale?: number; growEvery?: number } = {}) {
    this.scale = o.scale ?? 65536;
    this.growEvery = o.growEvery ?? 2000;
  }
  /** Takes the scale out of the gradients. @returns whether all are finite; a step whose are not must be left out */
  unscale(parameters: readonly Parameter[]): boolean {
    return scope(() =>
      noGrad(() => {
        const grads = parameters.map((p) => p.value.grad).filter((g): g is Tensor => g !== null);
        if (grads.length === 0) return true;
        ops._foreach_mul__Scalar(grads, 1 / this.scale);
        return grads.every((g) => Number.isFinite(g.abs().max().item()));
      }),
    );
  }
  /** After each step. */
  update(finite: boolean): void {
    this.good = finite ? this.good + 1 : 0;
    if (!finite) this.scale = Math.max(1, this.scale / 2);
    else if (this.good === this.growEvery) {
      this.scale *= 2;
      this.good = 0;
    }
  }
  /** The caller owns the tensor. */
  stateDict(): Map<string, Tensor> {
    return new Map([["scale_and_good_steps", fromData(Float32Array.of(this.scale, this.good), [2])]]);
  }
  load(source: { read(key: string): Tensor }): void {
    [this.scale, this.good] = scope(() => source.read("scale_and_good_steps").floats());
  }
}
