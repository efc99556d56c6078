/** The samplers by name. */
import { scope, TorchError, type Tensor } from "@make-your-anchor/torch";
import { alphasCumprod, interpret, multistepLevels, schedulerDefaults, timestepsOf, type SchedulerConfig } from "./config.ts";
import { DDIMScheduler } from "./ddim.ts";
import type { Sampler, SamplerState } from "./run.ts";
import { UniPCMultistepScheduler } from "./unipc.ts";

/** DDIM (arXiv:2010.02502); `eta` 0 deterministic … 1 as noisy as DDPM. */
export class DDIMSampler implements Sampler {
  readonly timesteps: readonly number[];
  readonly noisy: boolean;
  private readonly scheduler: DDIMScheduler;
  private readonly eta: number;

  constructor(config: Partial<SchedulerConfig>, steps: number, eta = 0) {
    if (!(eta >= 0 && eta <= 1)) throw new TorchError("ETA", `eta: expected 0 to 1, got ${eta}`);
    this.scheduler = new DDIMScheduler(config);
    this.timesteps = this.scheduler.timesteps(steps);
    this.eta = eta;
    this.noisy = eta > 0;
  }
  step(index: number, output: Tensor, sample: Tensor, _: SamplerState, noise?: Tensor): { sample: Tensor; state: SamplerState } {
    const { previous } = this.scheduler.step(output, this.timesteps[index], sample, this.timesteps.length, { eta: this.eta, noise });
    return { sample: previous, state: [] };
  }
}

/** DDPM's ancestral steps (arXiv:2006.11239) over a part of the timesteps, with the smaller of its two variances. */
export class DDPMSampler implements Sampler {
  readonly timesteps: readonly number[];
  readonly noisy = true;
  private readonly config: SchedulerConfig;
  private readonly alphas: Float32Array;

  constructor(config: Partial<SchedulerConfig>, steps: number) {
    this.config = { ...schedulerDefaults, ...config };
    this.timesteps = timestepsOf(this.config, steps);
    this.alphas = alphasCumprod(this.config);
  }
  step(index: number, output: Tensor, sample: Tensor, _: SamplerState, noise?: Tensor): { sample: Tensor; state: SamplerState } {
    if (!noise) throw new TorchError("NOISE", "DDPM needs noise of the sample's shape");
    return scope(() => {
      const t = this.timesteps[index];
      const before = t - Math.floor(this.config.num_train_timesteps / this.timesteps.length);
      const alpha = this.alphas[t];
      const alphaTo = before >= 0 ? this.alphas[before] : 1;
      const step = alpha / alphaTo; // the α of this step alone
      const { clean } = interpret(this.config, output, sample, alpha);
      const mean = clean
        .mul((Math.sqrt(alphaTo) * (1 - step)) / (1 - alpha))
        .add(sample.mul((Math.sqrt(step) * (1 - alphaTo)) / (1 - alpha)));
      const variance = ((1 - alphaTo) / (1 - alpha)) * (1 - step);
      return { sample: variance > 0 ? mean.add(noise.mul(Math.sqrt(variance))) : mean, state: [] };
    });
  }
}

/** DPM-Solver++ (arXiv:2211.01095), multistep of second order by the midpoint rule, as diffusers configures it. */
export class DPMSolverMultistepSampler implements Sampler {
  readonly timesteps: readonly number[];
  readonly noisy = false;
  /** Noise level √((1 − ᾱ)/ᾱ) of each timestep, and at last of timestep 0. */
  readonly sigmas: Float32Array;
  private readonly config: SchedulerConfig;

  constructor(config: Partial<SchedulerConfig>, steps: number) {
    this.config = { ...schedulerDefaults, timestep_spacing: "linspace", ...config };
    ({ timesteps: this.timesteps, sigmas: this.sigmas } = multistepLevels(this.config, steps));
  }
  private at(i: number): { alpha: number; sigma: number; lambda: number } {
    const s = this.sigmas[i];
    const alpha = 1 / Math.sqrt(s * s + 1);
    return { alpha, sigma: s * alpha, lambda: -Math.log(s) };
  }
  step(index: number, output: Tensor, sample: Tensor, state: SamplerState): { sample: Tensor; state: SamplerState } {
    return scope(() => {
      const [from, to] = [this.at(index), this.at(index + 1)];
      const { clean } = interpret(this.config, output, sample, from.alpha * from.alpha);
      const h = to.lambda - from.lambda;
      const gain = -to.alpha * Math.expm1(-h);
      let next = sample.mul(to.sigma / from.sigma).add(clean.mul(gain));
      const [before] = state;
      // A short run ends with a step of first order, which is steadier there.
      const last = index === this.timesteps.length - 1 && this.timesteps.length < 15;
      if (before && !last) {
        const ratio = (from.lambda - this.at(index - 1).lambda) / h;
        next = next.add(clean.sub(before).mul((0.5 * gain) / ratio));
      }
      return { sample: next, state: [clean] };
    });
  }
}

export const samplerNames = ["ddim", "ddpm", "unipc", "dpmsolver++"] as const;
export type SamplerName = (typeof samplerNames)[number];

/** A sampler by name; `config` as a scheduler_config.json has it, of whichever scheduler. */
export function createSampler(name: SamplerName, config: Partial<SchedulerConfig>, steps: number, o: { eta?: number } = {}): Sampler {
  if (o.eta !== undefined && o.eta !== 0 && name !== "ddim") throw new TorchError("ETA", `eta belongs to ddim, not to ${name}`);
  switch (name) {
    case "ddim":
      return new DDIMSampler(config, steps, o.eta);
    case "ddpm":
      return new DDPMSampler(config, steps);
    case "unipc":
      return new UniPCMultistepScheduler(config, steps);
    case "dpmsolver++":
      return new DPMSolverMultistepSampler(config, steps);
    default:
      throw new TorchError("SAMPLER", `sampler: expected one of ${samplerNames.join(", ")}, got "${String(name)}"`);
  }
}

/**
 * What sampling starts from: noise; but its mean, zero, where one step is taken from pure noise. That says nothing about the picture, and the model's
 * answer to it is best where it is least.
 * @param config the sampler's
 * @param noise  of the sample's shape, mean 0 and variance 1
 */
export const startOf = (sampler: Sampler, config: Partial<SchedulerConfig>, noise: Tensor): Tensor => {
  const { rescale_betas_zero_snr, num_train_timesteps } = { ...schedulerDefaults, ...config };
  return sampler.timesteps.length === 1 && rescale_betas_zero_snr && sampler.timesteps[0] === num_train_timesteps - 1
    ? noise.mul(0)
    : noise;
};
