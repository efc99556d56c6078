/** The loss of one body training step: the model's answer to noised latents, as the original's `train_body.py`. */
import { fromData, mseLoss, type Tensor } from "@make-your-anchor/torch";
import type { ControlNetModel } from "../models/controlnet.ts";
import type { UNet2DConditionModel } from "../models/unet-2d-condition.ts";
import type { DDPMScheduler } from "../schedulers/ddpm.ts";

export interface BodyBatch {
  /** `[B, C, h, w]`, already times the scaling factor. */
  latents: Tensor;
  /** Like `latents`. */
  noise: Tensor;
  /** `[B]`, 0 … num_train_timesteps − 1. */
  timesteps: readonly number[];
  /** Appearance, `[B, M, C']`. */
  context: Tensor;
  /** Condition pictures `[B, 3, H, W]`, values 0..1. */
  condition: Tensor;
}

/** Mean squared error over the batch; float32. */
export function bodyLoss(
  models: { unet: UNet2DConditionModel; controlnet: ControlNetModel; scheduler: DDPMScheduler },
  batch: BodyBatch,
): Tensor {
  const { unet, controlnet, scheduler } = models;
  const noisy = scheduler.addNoise(batch.latents, batch.noise, batch.timesteps);
  const t = fromData(BigInt64Array.from(batch.timesteps, BigInt), [batch.timesteps.length], { device: noisy.device });
  const residuals = controlnet.forward(noisy, t, batch.context, batch.condition);
  const output = unet.forward(noisy, t, batch.context, residuals);
  return mseLoss(output.to("float32"), scheduler.target(batch.latents, batch.noise, batch.timesteps).to("float32"));
}
