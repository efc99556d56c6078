/** Min-SNR loss weights (Hang et al. 2023, arXiv:2303.09556). */
import type { DDPMScheduler } from "../schedulers/ddpm.ts";

/**
 * min(SNR, γ) over SNR for models that answer with the noise, over SNR + 1 for the velocity, as it is for the clean sample: errors of all
 * timesteps on one scale, the easy ones no more than γ. A timestep of no signal at all (zero terminal SNR) gets 0.
 * @param gamma above 0; the paper's is 5
 */
export function minSnrWeights(scheduler: DDPMScheduler, timesteps: readonly number[], gamma: number): number[] {
  return timesteps.map((t) => {
    const a = scheduler.alphasCumprod[t];
    const snr = a / Math.max(1e-12, 1 - a);
    const clamped = Math.min(snr, gamma);
    switch (scheduler.config.prediction_type) {
      case "epsilon":
        return snr > 0 ? clamped / snr : 1;
      case "v_prediction":
        return clamped / (snr + 1);
      default:
        return clamped;
    }
  });
}
