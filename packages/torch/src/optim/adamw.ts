/** AdamW (arXiv:1711.05101) as torch computes it, the fused kernel where libtorch has one. */
import { fromData, zeros, zerosLike } from "../create.ts";
import { TorchError } from "../errors.ts";
import { keep, noGrad, scope } from "../scope.ts";
import { torchVersion } from "../native.ts";
import type { Tensor } from "../tensor.ts";
import type { Parameter } from "../nn/module.ts";
import * as ops from "../ops.gen.ts";

export interface AdamWOptions {
  lr: number;
  betas?: readonly [number, number];
  eps?: number;
  /** Decoupled weight decay; 0 makes it Adam. */
  weightDecay?: number;
}

/** Moments, kept by parameter name so that a checkpoint is independent of the order of parameters. */
export class AdamW {
  lr: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
  private readonly parameters: readonly [string, Parameter][];
  private readonly m: Tensor[] = [];
  private readonly v: Tensor[] = [];
  private readonly fusedSteps: Tensor[] = [];
  private readonly fused: boolean;
  private steps = 0;

  constructor(parameters: Iterable<readonly [string, Parameter]>, options: AdamWOptions) {
    this.parameters = [...parameters].map(([name, p]) => [name, p]);
    this.lr = options.lr;
    this.betas = options.betas ?? [0.9, 0.999];
    this.eps = options.eps ?? 1e-8;
    this.weightDecay = options.weightDecay ?? 0.01;
    // CUDA has the fused kernel from 2.0 on, the CPU from 2.4. It wants its step counts beside the weights.
    const [major, minor] = torchVersion;
    const onCpu = this.parameters.some(([, p]) => p.value.device === "cpu");
    this.fused = ops.op._fused_adamw_.exists && (major > 2 || (major === 2 && (!onCpu || minor >= 4)));
    noGrad(() => {
      for (const [, p] of this.parameters) {
        this.m.push(keep(zerosLike(p.value)));
        this.v.push(keep(zerosLike(p.value)));
        if (this.fused) this.fusedSteps.push(keep(zeros([], { device: p.value.device })));
      }
    });
  }

  /** One update from the parameters' gradients; a parameter without one stays as it is. */
  step(): void {
    this.steps++;
    scope(() =>
      noGrad(() => {
        const gradients = this.parameters.map(([, p]) => p.value.grad);
        for (const at of groups(gradients)) this.update(at, gradients as Tensor[]);
      }),
    );
  }

  /** Updates the parameters at these places; what it makes on the way is freed before the next group. */
  private update(at: readonly number[], gradients: readonly Tensor[]): void {
    scope(() => {
      const values = at.map((i) => this.parameters[i][1].value);
      const grads = at.map((i) => gradients[i]);
      const m = at.map((i) => this.m[i]);
      const v = at.map((i) => this.v[i]);
      const [beta1, beta2] = this.betas;
      if (this.fused) {
        const counts = at.map((i) => this.fusedSteps[i].fill_(this.steps));
        ops._fused_adamw_(values, grads, m, v, [], counts, this.lr, beta1, beta2, this.weightDecay, this.eps, false, false);
        return;
      }
      ops._foreach_mul__Scalar(values, 1 - this.lr * this.weightDecay);
      ops._foreach_mul__Scalar(m, beta1);
      ops._foreach_add__List(m, grads, 1 - beta1);
      ops._foreach_mul__Scalar(v, beta2);
      ops._foreach_addcmul__Scalar(v, grads, grads, 1 - beta2);
      const correction2 = Math.sqrt(1 - beta2 ** this.steps);
      const denominators = ops._foreach_sqrt(v);
      ops._foreach_mul__Scalar(denominators, 1 / correction2);
      ops._foreach_add__Scalar(denominators, this.eps);
      ops._foreach_addcdiv__Scalar(values, m, denominators, -this.lr / (1 - beta1 ** this.steps));
    });
  }

  zeroGrad(): void {
    for (const [, p] of this.parameters) p.value.setGrad(null);
  }

  /** Moments as `<name>.exp_avg`, `<name>.exp_avg_sq`, and `step`; the moments are not copied. */
  stateDict(): Map<string, Tensor> {
    const out = new Map<string, Tensor>();
    this.parameters.forEach(([name], i) => {
      out.set(`${name}.exp_avg`, this.m[i]);
      out.set(`${name}.exp_avg_sq`, this.v[i]);
    });
    out.set("step", fromData(new Float64Array([this.steps]), [1]));
    return out;
  }
  loadStateDict(source: { read(key: string): Tensor }): void {
    scope(() =>
      noGrad(() => {
        this.parameters.forEach(([name], i) => {
          const m = source.read(`${name}.exp_avg`);
          const v = source.read(`${name}.exp_avg_sq`);
          if (m.shape.join() !== this.m[i].shape.join())
            throw new TorchError(
              "OPTIMIZER_STATE",
              `optimizer state of ${name}: shape [${m.shape.join(", ")}], the parameter's is [${this.m[i].shape.join(", ")}]`,
            );
          this.m[i].copy_(m);
          this.v[i].copy_(v);
        });
        this.steps = source.read("step").item();
      }),
    );
  }
  dispose(): void {
    for (const t of [...this.m, ...this.v, ...this.fusedSteps]) t.dispose();
  }
}

/** Numbers updated at once: an update makes a copy as large, which for all of a full-size model would be another model. */
const groupSize = 1 << 25;

/** Places of the gradients that are there, in groups. */
function groups(gradients: readonly (Tensor | null)[]): number[][] {
  const out: number[][] = [];
  let size = Number.POSITIVE_INFINITY;
  gradients.forEach((g, i) => {
    if (!g) return;
    if (size + g.numel > groupSize) {
      out.push([]);
      size = 0;
    }
    out[out.length - 1].push(i);
    size += g.numel;
  });
  return out;
}
