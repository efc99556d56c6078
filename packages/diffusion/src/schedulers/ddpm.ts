/** The forward process of DDPM (arXiv:2006.11239): noising for training. */
import { fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { alphasCumprod, schedulerDefaults, type SchedulerConfig } from "./config.ts";

export class DDPMScheduler {
  readonly config: Readonly<SchedulerConfig>;
  /** `[num_train_timesteps]`. */
  readonly alphasCumprod: Float32Array;

  constructor(config: Partial<SchedulerConfig> = {}) {
    this.config = Object.freeze({ ...schedulerDefaults, ...config });
    this.alphasCumprod = alphasCumprod(this.config);
  }

  private coefficients(timesteps: readonly number[], like: Tensor): [Tensor, Tensor] {
    const shape = [timesteps.length, ...like.shape.slice(1).map(() => 1)];
    const column = (f: (a: number) => number) =>
      fromData(
        Float32Array.from(timesteps, (t) => f(this.alphasCumprod[t])),
        shape,
        { device: like.device },
      ).to(like.dtype);
    return [column((a) => Math.sqrt(a)), column((a) => Math.sqrt(1 - a))];
  }

  /** √ᾱ · x₀ + √(1 − ᾱ) · noise; one timestep (0 … num_train_timesteps − 1) for each sample of the batch. */
  addNoise(clean: Tensor, noise: Tensor, timesteps: readonly number[]): Tensor {
    return scope(() => {
      const [a, b] = this.coefficients(timesteps, clean);
      return clean.mul(a).add(noise.mul(b));
    });
  }
  /** The velocity √ᾱ · noise − √(1 − ᾱ) · x₀ (arXiv:2202.00512). */
  getVelocity(clean: Tensor, noise: Tensor, timesteps: readonly number[]): Tensor {
    return scope(() => {
      const [a, b] = this.coefficients(timesteps, clean);
      return noise.mul(a).sub(clean.mul(b));
    });
  }
  /** What the model should answer. */
  target(clean: Tensor, noise: Tensor, timesteps: readonly number[]): Tensor {
    if (this.config.prediction_type === "epsilon") return noise;
    return noGrad(() => (this.config.prediction_type === "sample" ? clean : this.getVelocity(clean, noise, timesteps)));
  }
}
