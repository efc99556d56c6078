/** DDIM (arXiv:2010.02502). */
import { scope, TorchError, type Tensor } from "@make-your-anchor/torch";
import { alphasCumprod, interpret, schedulerDefaults, timestepsOf, type SchedulerConfig } from "./config.ts";

/**
 * One DDIM step, equation 12; the paper's α is our `alphaBar`.
 * @param noiseScale the paper's σ; `variance` is the noise it multiplies
 */
export function ddimStep(clean: Tensor, noise: Tensor, alphaBarTo: number, noiseScale = 0, variance?: Tensor): Tensor {
  const direction = noise.mul(Math.sqrt(1 - alphaBarTo - noiseScale ** 2));
  const next = clean.mul(Math.sqrt(alphaBarTo)).add(direction);
  return variance && noiseScale > 0 ? next.add(variance.mul(noiseScale)) : next;
}

export class DDIMScheduler {
  readonly config: Readonly<SchedulerConfig>;
  readonly alphasCumprod: Float32Array;

  constructor(config: Partial<SchedulerConfig> = {}) {
    this.config = Object.freeze({ ...schedulerDefaults, ...config });
    this.alphasCumprod = alphasCumprod(this.config);
  }

  timesteps(steps: number): number[] {
    return timestepsOf(this.config, steps);
  }

  /**
   * From timestep `t` to the one `num_train_timesteps / steps` below (not the next of the list: that is how diffusers steps).
   * @param eta 0 deterministic … 1 as noisy as DDPM; above 0 it needs `noise`, of the sample's shape
   */
  step(
    output: Tensor,
    t: number,
    sample: Tensor,
    steps: number,
    options: { eta?: number; noise?: Tensor } = {},
  ): { previous: Tensor; clean: Tensor } {
    const eta = options.eta ?? 0;
    if (eta > 0 && !options.noise) throw new TorchError("NOISE", "DDIM with eta above 0 needs noise of the sample's shape");
    return scope(() => {
      const before = t - Math.floor(this.config.num_train_timesteps / steps);
      const alpha = this.alphasCumprod[t];
      const alphaTo = before >= 0 ? this.alphasCumprod[before] : this.config.set_alpha_to_one ? 1 : this.alphasCumprod[0];
      const { clean, noise } = interpret(this.config, output, sample, alpha);
      const sigma = eta * Math.sqrt(((1 - alphaTo) / (1 - alpha)) * (1 - alpha / alphaTo));
      return { previous: ddimStep(clean, noise, alphaTo, sigma, options.noise), clean };
    });
  }
}
