/** UniPC (arXiv:2302.04867), multistep with corrector: data prediction, B₂(h), as diffusers configures it. */
import { keep, scope, type Tensor } from "@make-your-anchor/torch";
import { alphasCumprod, interpret, schedulerDefaults, type SchedulerConfig } from "./config.ts";

export interface UniPCConfig extends SchedulerConfig {
  solver_order: number;
  lower_order_final: boolean;
}

/** A run over a fixed number of steps; `step` must be called once for each timestep, in order. */
export class UniPCMultistepScheduler {
  readonly config: Readonly<UniPCConfig>;
  readonly timesteps: readonly number[];
  /** Noise level √((1 − ᾱ)/ᾱ) of each timestep, and at last of timestep 0. */
  readonly sigmas: Float32Array;
  /** Predicted clean samples of the last steps, newest last. */
  private readonly history: Tensor[] = [];
  private lastSample: Tensor | undefined;
  private lastOrder = 0;
  private index = 0;

  constructor(config: Partial<UniPCConfig>, steps: number) {
    this.config = Object.freeze({
      ...schedulerDefaults,
      timestep_spacing: "linspace",
      solver_order: 2,
      lower_order_final: true,
      ...config,
    });
    const n = this.config.num_train_timesteps;
    // One point more than steps, the last dropped: UniPC's own spacing, which differs from DDIM's.
    const all =
      this.config.timestep_spacing === "leading"
        ? Array.from({ length: steps }, (_, i) => (steps - i) * Math.floor(n / (steps + 1)) + this.config.steps_offset)
        : Array.from({ length: steps }, (_, i) => Math.round(((n - 1) * (steps - i)) / steps));
    this.timesteps = all;
    const level = (a: number) => Math.sqrt((1 - a) / a);
    const alphas = alphasCumprod(this.config);
    this.sigmas = Float32Array.from([...all.map((t) => level(alphas[t])), level(alphas[0])]);
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

  private update(x: Tensor, clean0: Tensor, from: number, to: number, order: number, corrected: Tensor | undefined): Tensor {
    const [a, z] = [this.at(from), this.at(to)];
    const { h, b, rks, rhos } = this.solve(from, to, order, corrected !== undefined);
    let y = x.mul(z.sigma / a.sigma).sub(clean0.mul(z.alpha * Math.expm1(-h)));
    const earlier = this.history;
    for (let i = 1; i < order; i++) {
      const before = earlier[earlier.length - 1 - i];
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

  /** The sample at the next timestep. */
  step(output: Tensor, sample: Tensor): Tensor {
    return scope(() => {
      const i = this.index;
      const sigma = this.sigmas[i];
      const { clean } = interpret(this.config, output, sample, 1 / (sigma * sigma + 1));
      let x = sample;
      if (i > 0 && this.lastSample) {
        const clean0 = this.history[this.history.length - 1];
        x = this.update(this.lastSample, clean0, i - 1, i, this.lastOrder, clean);
      }
      this.history.push(keep(clean));
      if (this.history.length > this.config.solver_order) this.history.shift()!.dispose();
      let order = this.config.lower_order_final ? Math.min(this.config.solver_order, this.timesteps.length - i) : this.config.solver_order;
      order = Math.min(order, i + 1, this.history.length);
      this.lastSample?.dispose();
      this.lastSample = keep(x === sample ? sample.clone() : x);
      this.lastOrder = order;
      this.index++;
      return this.update(this.lastSample, clean, i, i + 1, order, undefined);
    });
  }

  dispose(): void {
    for (const t of this.history) t.dispose();
    this.history.length = 0;
    this.lastSample?.dispose();
    this.lastSample = undefined;
  }
}

/** Solves a small dense system by elimination with pivoting. */
function solveLinear(rows: number[][], right: number[]): number[] {
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
