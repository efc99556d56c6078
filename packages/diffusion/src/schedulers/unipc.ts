/** UniPC (arXiv:2302.04867), multistep with corrector: data prediction, B₂(h), as diffusers configures it. */
import { scope, type Tensor } from "@make-your-anchor/torch";
import { interpret, multistepLevels, schedulerDefaults, type SchedulerConfig } from "./config.ts";
import type { Sampler, SamplerState } from "./run.ts";

export interface UniPCConfig extends SchedulerConfig {
  solver_order: number;
  lower_order_final: boolean;
}

/** A run over a fixed number of steps. Its state is the clean samples predicted last, oldest first, and the sample they led from. */
export class UniPCMultistepScheduler implements Sampler {
  readonly config: Readonly<UniPCConfig>;
  readonly timesteps: readonly number[];
  readonly noisy = false;
  /** Noise level √((1 − ᾱ)/ᾱ) of each timestep, and at last of timestep 0. */
  readonly sigmas: Float32Array;

  constructor(config: Partial<UniPCConfig>, steps: number) {
    this.config = Object.freeze({
      ...schedulerDefaults,
      timestep_spacing: "linspace",
      solver_order: 2,
      lower_order_final: true,
      ...config,
    });
    ({ timesteps: this.timesteps, sigmas: this.sigmas } = multistepLevels(this.config, steps));
  }

  /** Order of the update from step `i`: as many clean samples as there are, fewer at the end. */
  private order(i: number): number {
    const { solver_order, lower_order_final } = this.config;
    return Math.min(solver_order, i + 1, lower_order_final ? this.timesteps.length - i : solver_order);
  }

  private at(i: number): { alpha: number; sigma: number; lambda: number } {
    const s = this.sigmas[i];
    const alpha = 1 / Math.sqrt(s * s + 1);
    return { alpha, sigma: s * alpha, lambda: -Math.log(s) };
  }

  /** Coefficients of the UniP or UniC update of an order from step `from` to `to`. */
  private solve(from: number, to: number, order: number, corrector: boolean): { h: number; b: number; rks: number[]; rhos: number[] } {
    const [a, z] = [this.at(from), this.at(to)];
    const h = z.lambda - a.lambda;
    const rks: number[] = [];
    for (let i = 1; i < order; i++) rks.push((this.at(from - i).lambda - a.lambda) / h);
    rks.push(1);
    const hh = -h;
    let phi = Math.expm1(hh) / hh - 1;
    const b2 = Math.expm1(hh);
    let factorial = 1;
    const rows: number[][] = [];
    const right: number[] = [];
    for (let i = 1; i <= order; i++) {
      rows.push(rks.map((r) => r ** (i - 1)));
      right.push((phi * factorial) / b2);
      factorial *= i + 1;
      phi = phi / hh - 1 / factorial;
    }
    let rhos: number[];
    if (corrector) rhos = order === 1 ? [0.5] : solveLinear(rows, right);
    else if (order === 1) rhos = [];
    else if (order === 2) rhos = [0.5];
    else
      rhos = solveLinear(
        rows.slice(0, -1).map((r) => r.slice(0, -1)),
        right.slice(0, -1),
      );
    return { h, b: b2, rks, rhos };
  }

  /** `history` ends with the clean sample at step `from`. */
  private update(x: Tensor, history: readonly Tensor[], from: number, to: number, order: number, corrected?: Tensor): Tensor {
    const [a, z] = [this.at(from), this.at(to)];
    const { h, b, rks, rhos } = this.solve(from, to, order, corrected !== undefined);
    const clean0 = history[history.length - 1];
    let y = x.mul(z.sigma / a.sigma).sub(clean0.mul(z.alpha * Math.expm1(-h)));
    for (let i = 1; i < order; i++) {
      const before = history[history.length - 1 - i];
      y = y.sub(
        before
          .sub(clean0)
          .div(rks[i - 1])
          .mul(z.alpha * b * rhos[i - 1]),
      );
    }
    if (corrected) y = y.sub(corrected.sub(clean0).mul(z.alpha * b * rhos[rhos.length - 1]));
    return y;
  }

  step(i: number, output: Tensor, sample: Tensor, state: SamplerState): { sample: Tensor; state: SamplerState } {
    return scope(() => {
      const sigma = this.sigmas[i];
      const { clean } = interpret(this.config, output, sample, 1 / (sigma * sigma + 1));
      const earlier = state.slice(0, -1);
      // The corrector goes back over the step before with what the model now said.
      const x = i > 0 ? this.update(state[state.length - 1], earlier, i - 1, i, this.order(i - 1), clean) : sample.clone();
      const history = [...earlier, clean].slice(-this.config.solver_order);
      return { sample: this.update(x, history, i, i + 1, this.order(i)), state: [...history, x] };
    });
  }
}

/** Solves a small dense system by elimination with pivoting. */
export function solveLinear(rows: number[][], right: number[]): number[] {
  const n = right.length;
  const m = rows.map((r, i) => [...r, right[i]]);
  for (let c = 0; c < n; c++) {
    const pivot = m.reduce((best, r, i) => (i >= c && Math.abs(r[c]) > Math.abs(m[best][c]) ? i : best), c);
    [m[c], m[pivot]] = [m[pivot], m[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const f = m[r][c] / m[c][c];
      for (let k = c; k <= n; k++) m[r][k] -= f * m[c][k];
    }
  }
  return m.map((r, i) => r[n] / r[i]);
}
