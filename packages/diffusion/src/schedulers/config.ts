/** Noise schedules shared by every scheduler, in float32 as diffusers computes them. */
import { linspace, noGrad, scope, TorchError, type Tensor } from "@make-your-anchor/torch";

export interface SchedulerConfig {
  num_train_timesteps: number;
  beta_start: number;
  beta_end: number;
  beta_schedule: "linear" | "scaled_linear" | "squaredcos_cap_v2";
  prediction_type: "epsilon" | "v_prediction" | "sample";
  timestep_spacing: "leading" | "linspace" | "trailing";
  steps_offset: number;
  /** Whether the step below timestep 0 has α = 1 or the first α of the schedule. */
  set_alpha_to_one: boolean;
  /** Rescales the betas so that the last timestep is pure noise (arXiv:2305.08891). */
  rescale_betas_zero_snr: boolean;
  clip_sample: boolean;
}

/** Stable Diffusion 1.5's file, with diffusers' defaults for what it lacks. */
export const schedulerDefaults: SchedulerConfig = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  prediction_type: "epsilon",
  timestep_spacing: "leading",
  steps_offset: 1,
  set_alpha_to_one: false,
  rescale_betas_zero_snr: false,
  clip_sample: false,
};

export function betasOf(c: SchedulerConfig): Float32Array {
  return scope(() =>
    noGrad(() => {
      const n = c.num_train_timesteps;
      switch (c.beta_schedule) {
        case "linear":
          return linspace(c.beta_start, c.beta_end, n).floats();
        case "scaled_linear":
          return linspace(Math.sqrt(c.beta_start), Math.sqrt(c.beta_end), n).square().floats();
        case "squaredcos_cap_v2": {
          const bar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
          return Float32Array.from({ length: n }, (_, i) => Math.min(1 - bar((i + 1) / n) / bar(i / n), 0.999));
        }
        default:
          throw new TorchError("CONFIG", `beta_schedule "${String(c.beta_schedule)}" is not supported`);
      }
    }),
  );
}

/** Products of 1 − β up to each timestep, float32. */
export function alphasCumprod(c: SchedulerConfig): Float32Array {
  const betas = betasOf(c);
  const out = new Float32Array(betas.length);
  let product = 1;
  for (let i = 0; i < betas.length; i++) {
    // Terms in float32, their product carried in double: so does libtorch.
    product *= Math.fround(1 - betas[i]);
    out[i] = product;
  }
  if (!c.rescale_betas_zero_snr) return out;
  const first = Math.sqrt(out[0]);
  const last = Math.sqrt(out[out.length - 1]);
  return out.map((a) => (((Math.sqrt(a) - last) * first) / (first - last)) ** 2);
}

/** The timesteps of an inference run, falling. */
export function timestepsOf(c: SchedulerConfig, steps: number): number[] {
  const n = c.num_train_timesteps;
  if (!Number.isInteger(steps) || steps < 1 || steps > n)
    throw new TorchError("STEPS", `number of sampling steps: expected 1 to ${n}, got ${steps}`);
  if (c.timestep_spacing === "leading") {
    const ratio = Math.floor(n / steps);
    return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * ratio + c.steps_offset);
  }
  if (c.timestep_spacing === "trailing") return Array.from({ length: steps }, (_, i) => Math.round(n - (i * n) / steps) - 1);
  if (c.timestep_spacing === "linspace")
    return Array.from({ length: steps }, (_, i) => halfEven(((n - 1) * (steps - 1 - i)) / Math.max(1, steps - 1)));
  throw new TorchError("CONFIG", `timestep_spacing "${String(c.timestep_spacing)}" is not supported`);
}

const halfEven = (x: number) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** What a model's output says: the clean sample and the noise. `alpha` is the product of alphas at the sample's timestep. */
export function interpret(c: SchedulerConfig, output: Tensor, sample: Tensor, alpha: number): { clean: Tensor; noise: Tensor } {
  const [a, b] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)];
  switch (c.prediction_type) {
    case "epsilon":
      return { clean: sample.sub(output.mul(b)).div(a), noise: output };
    case "v_prediction":
      return { clean: sample.mul(a).sub(output.mul(b)), noise: output.mul(a).add(sample.mul(b)) };
    case "sample":
      return { clean: output, noise: sample.sub(output.mul(a)).div(b) };
    default:
      throw new TorchError("CONFIG", `prediction_type "${String(c.prediction_type)}" is not supported`);
  }
}

/** Timesteps and noise levels of the multistep solvers: one point more than steps, the last dropped; this differs from DDIM's spacing. */
export function multistepLevels(c: SchedulerConfig, steps: number): { timesteps: number[]; sigmas: Float32Array } {
  const n = c.num_train_timesteps;
  if (!Number.isInteger(steps) || steps < 1 || steps >= n)
    throw new TorchError("STEPS", `number of sampling steps: expected 1 to ${n - 1}, got ${steps}`);
  const timesteps =
    c.timestep_spacing === "leading"
      ? Array.from({ length: steps }, (_, i) => (steps - i) * Math.floor(n / (steps + 1)) + c.steps_offset)
      : c.timestep_spacing === "trailing"
        ? Array.from({ length: steps }, (_, i) => Math.round(n - (i * n) / steps) - 1)
        : Array.from({ length: steps }, (_, i) => Math.round(((n - 1) * (steps - i)) / steps));
  const alphas = alphasCumprod(c);
  const level = (a: number) => Math.sqrt((1 - a) / a);
  const sigmas = Float32Array.from([...timesteps.map((t) => level(alphas[t])), level(alphas[0])]);
  if (!sigmas.every((s) => Number.isFinite(s) && s > 0))
    throw new TorchError("SAMPLER", "this solver cannot start from pure noise (zero terminal SNR): take ddim or ddpm");
  return { timesteps, sigmas };
}
