/** Exponential moving average of weights. */
import { keep, noGrad, ops, scope, type Parameter, type Tensor } from "@make-your-anchor/torch";

export class Ema {
  private readonly parameters: readonly (readonly [string, Parameter])[];
  private readonly shadow: Tensor[];

  constructor(parameters: readonly (readonly [string, Parameter])[]) {
    this.parameters = parameters;
    this.shadow = noGrad(() => parameters.map(([, p]) => keep(p.value.clone())));
  }
  /** `step` counts from 1: the average follows faster at first. */
  update(decay: number, step: number): void {
    const d = Math.min(decay, (1 + step) / (10 + step));
    scope(() =>
      noGrad(() => {
        ops._foreach_mul__Scalar(this.shadow, d);
        ops._foreach_add__List(
          this.shadow,
          this.parameters.map(([, p]) => p.value.detach()),
          1 - d,
        );
      }),
    );
  }
  /** The averages under the parameters' names, not copied. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.parameters.map(([name], i) => [name, this.shadow[i]]));
  }
  load(source: { read(key: string): Tensor }): void {
    scope(() => noGrad(() => this.parameters.forEach(([name], i) => void this.shadow[i].copy_(source.read(name)))));
  }
  /** Puts the averages into the parameters. */
  apply(): void {
    noGrad(() => this.parameters.forEach(([, p], i) => p.set(this.shadow[i].clone())));
  }
  /** Exchanges averages and parameters; a second time puts them back. */
  swap(): void {
    scope(() =>
      noGrad(() =>
        this.parameters.forEach(([, p], i) => {
          const held = p.value.detach().clone();
          p.value.detach().copy_(this.shadow[i]);
          this.shadow[i].copy_(held);
        }),
      ),
    );
  }
  dispose(): void {
    for (const t of this.shadow) t.dispose();
  }
}
