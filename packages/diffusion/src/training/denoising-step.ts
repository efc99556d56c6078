/** The loss of one training step: the models' answer to noised latents, as the original's `train_body.py` and `train_head.py`. */
import { cat, fromData, maxPool2d, mseLoss, segment, type Tensor } from "@make-your-anchor/torch";
import type { Dropout } from "../models/dropout.ts";
import type { ControlNetModel } from "../models/controlnet.ts";
import type { UNet2DConditionModel } from "../models/unet-2d-condition.ts";
import type { DDPMScheduler } from "../schedulers/ddpm.ts";

export interface DenoisingModels {
  unet: UNet2DConditionModel;
  controlnet: ControlNetModel;
  scheduler: DDPMScheduler;
}

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
  /** `[B, C, h, w]`: latents of each frame's draft, times the scaling factor, of a UNet of 2·C input channels that paints from one. */
  draftLatents?: Tensor;
  /** `[B]`: what each sample's error counts; left out, all count 1. */
  weights?: readonly number[];
  /** `[B, 1, h, w]`: what each place's error counts; left out, all count 1. See `meshFocus`. */
  focus?: Tensor;
  /** What training leaves out, of a batch with as many samples. */
  dropout?: Dropout;
}

/**
 * Weights that look at the person: 1 at and near the mesh (hair and clothes reach beyond it), `background` elsewhere, scaled so that each sample's mean is 1.
 * @param condition `[B, 3, H, W]`, 0 where nothing is drawn
 * @param size side of the latents, which divides H = W
 * @returns `[B, 1, size, size]` float32
 */
export function meshFocus(condition: Tensor, size: number, background: number): Tensor {
  const drawn = condition.to("float32").sum([1], true).gt(0).to("float32");
  return focusOn(maxPool2d(maxPool2d(drawn, condition.size(2) / size), 5, { stride: 1, padding: 2 }), background);
}

/**
 * Weights that look at what a head paints: 1 there and beside it, `background` elsewhere, scaled so that each sample's mean is 1.
 * @param mask `[B, 1, h, w]`, 0 where it is painted
 */
export const paintedFocus = (mask: Tensor, background: number): Tensor =>
  focusOn(maxPool2d(mask.mul(-1).add(1).to("float32"), 3, { stride: 1, padding: 1 }), background);

function focusOn(near: Tensor, background: number): Tensor {
  const weights = near.mul(1 - background).add(background);
  return weights.div(weights.mean([1, 2, 3], true).clamp(1e-6, null));
}

export interface HeadBatch extends BodyBatch {
  /** `[B, 1, h, w]`: 1 where the picture is kept, 0 where the face is to be painted. */
  maskLatents: Tensor;
  /** `[B, C, h, w]`: latents of the picture with the face blanked, already times the scaling factor. */
  maskedImageLatents: Tensor;
}

/**
 * What the models say to noised latents: noise or velocity, as the schedule wants it.
 * @param noisy `[B, C, h, w]`
 * @param timesteps `[B]`
 * @param asked context and condition; of a head also mask and masked picture, of a body that has one its draft
 */
export function predictNoised(
  { unet, controlnet }: Pick<DenoisingModels, "unet" | "controlnet">,
  noisy: Tensor,
  timesteps: readonly number[],
  asked: Pick<BodyBatch, "context" | "condition" | "draftLatents" | "dropout"> &
    Partial<Pick<HeadBatch, "maskLatents" | "maskedImageLatents">>,
): Tensor {
  const { maskLatents, maskedImageLatents, draftLatents } = asked;
  const t = fromData(BigInt64Array.from(timesteps, BigInt), [timesteps.length], { device: noisy.device });
  const { dropout } = asked;
  const residuals = controlnet.forward(noisy, t, asked.context, asked.condition, { dropout });
  const beside = maskLatents && maskedImageLatents ? [maskLatents, maskedImageLatents] : draftLatents ? [draftLatents] : [];
  const seen = beside.length > 0 ? cat([noisy, ...beside], 1) : noisy;
  return unet.forward(seen, t, asked.context, residuals, dropout);
}

/** Mean squared error over the batch; float32. For an inpainting UNet, which also sees mask and masked picture (the ControlNet does not), `batch` has them. */
export function denoisingLoss(models: DenoisingModels, batch: BodyBatch | HeadBatch): Tensor {
  const { scheduler } = models;
  const noisy = scheduler.addNoise(batch.latents, batch.noise, batch.timesteps);
  const output = predictNoised(models, noisy, batch.timesteps, batch);
  const target = scheduler.target(batch.latents, batch.noise, batch.timesteps).to("float32");
  const { weights, focus } = batch;
  if (!weights && !focus) return segment([output], ([y]) => mseLoss(y.to("float32"), target));
  return segment([output], ([y]) => {
    const squares = y.to("float32").sub(target).square();
    const errors = (focus ? squares.mul(focus) : squares).flatten(1).mean(1);
    if (!weights) return errors.mean();
    return errors.mul(fromData(Float32Array.from(weights), [weights.length], { device: errors.device })).mean();
  });
}
