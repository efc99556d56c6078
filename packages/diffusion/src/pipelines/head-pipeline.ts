/** Painting faces anew: the original's `StableDiffusionControlNetInpaintPipeline`, all pictures of a batch at once, apart from each other. */
import { setImmediate as breathe } from "node:timers/promises";
import { cat, expectShape, fromData, keep, noGrad, scope, TorchError, type Tensor } from "@make-your-anchor/torch";
import { resizePil, toLuma, type RgbImage } from "@make-your-anchor/media";
import { samplePosterior, type AutoencoderKL } from "../models/autoencoder-kl.ts";
import type { ControlNetModel } from "../models/controlnet.ts";
import type { UNet2DConditionModel } from "../models/unet-2d-condition.ts";
import type { Sampler, SamplerState } from "../schedulers/run.ts";

export interface HeadModels {
  /** Takes noisy latents, mask and masked latents: 2·C + 1 channels for C of the VAE. */
  unet: UNet2DConditionModel;
  controlnet: ControlNetModel;
  vae: AutoencoderKL;
}

export interface HeadSampling {
  /** Pictures with the face to be painted, all of one size, a multiple of the VAE's factor. */
  images: readonly RgbImage[];
  /** White is kept, black is painted: the reverse of the stock pipeline. Grey 128 is white. */
  masks: readonly RgbImage[];
  /** Condition crops; resized by PIL's Lanczos where their size differs. */
  conditions: readonly RgbImage[];
  /** Appearance, `[1 or N, M, C]`. */
  promptEmbeds: Tensor;
  /** The other branch of the guidance, like `promptEmbeds`; not needed where `guidanceScale` is 1. */
  negativePromptEmbeds?: Tensor;
  /** Initial noise `[1, latent channels, h, w]`, shared by all pictures. */
  noise: Tensor;
  /** Noise for drawing the masked pictures' latents, `[N, latent channels, h, w]`; left out, their mean is taken. */
  posteriorNoise?: Tensor;
  sampler: Sampler;
  /** Noise of a step, `[1, latent channels, h, w]`, shared by all pictures; needed where the sampler is noisy. Owned by the callee. */
  stepNoise?: (step: number) => Tensor;
  /** 1 leaves the guidance out. Default 3.5. */
  guidanceScale?: number;
  /** Default 1. */
  controlnetConditioningScale?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
  /** Latents `[N, C, h, w]` after each step; not owned by the callee. */
  onLatents?: (step: number, latents: Tensor) => void;
}

/** What the UNet is shown beside the noisy latents. */
export interface HeadInputs {
  /** `[N, 1, H, W]`, 0 or 1; 1 is kept. */
  mask: Tensor;
  /** `[N, 3, H, W]`, values −1..1, where it is to be painted 0 or the draft. */
  maskedImage: Tensor;
  /** `[N, 1, h, w]` */
  maskLatents: Tensor;
  /** `[N, C, h, w]`, times the scaling factor. */
  maskedImageLatents: Tensor;
}

/** `[N, 3, H, W]`, values 0..255, float32. */
function stack(images: readonly RgbImage[], what: string): Tensor {
  const [{ width, height }] = images;
  const plane = width * height;
  const out = new Float32Array(images.length * 3 * plane);
  images.forEach((image, n) => {
    if (image.width !== width || image.height !== height)
      throw new TorchError("SHAPE", `${what} ${n}: expected ${width}x${height} pixels as the first, got ${image.width}x${image.height}`);
    for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) out[(n * 3 + c) * plane + i] = image.data[3 * i + c];
  });
  return fromData(out, [images.length, 3, height, width]);
}

/** `[N, 3, H, W]`, values −1..1. */
const pixelsOf = (vae: AutoencoderKL, pictures: readonly RgbImage[]): Tensor =>
  stack(pictures, "picture").to(vae.device).to(vae.dtype).div(127.5).sub(1);

/** Pictures of one size as a UNet takes them beside its noisy latents: `[N, C, h, w]`, the posteriors' means times the scaling factor. */
export const pictureLatents = (vae: AutoencoderKL, pictures: readonly RgbImage[]): Tensor =>
  vae.encode(pixelsOf(vae, pictures)).mean.mul(vae.config.scaling_factor);

/**
 * Masks and masked pictures as the inpainting UNet takes them.
 * @param drafts what stands where the pictures are to be painted, where the model knows drafts
 */
export function headInputs(
  vae: AutoencoderKL,
  images: readonly RgbImage[],
  masks: readonly RgbImage[],
  { posteriorNoise, drafts }: { posteriorNoise?: Tensor; drafts?: readonly RgbImage[] } = {},
): HeadInputs {
  const [{ width, height }] = images;
  if (masks.length !== images.length) throw new TorchError("SHAPE", `${images.length} pictures, but ${masks.length} masks`);
  const kept = new Float32Array(masks.length * width * height);
  masks.forEach((mask, n) => {
    if (mask.width !== width || mask.height !== height)
      throw new TorchError("SHAPE", `mask ${n}: expected ${width}x${height} pixels as the picture, got ${mask.width}x${mask.height}`);
    toLuma(mask).forEach((v, i) => (kept[n * width * height + i] = v >= 128 ? 1 : 0));
  });
  const mask = fromData(kept, [masks.length, 1, height, width]).to(vae.device).to(vae.dtype);
  const keptPixels = pixelsOf(vae, images).mul(mask);
  const maskedImage = drafts ? keptPixels.add(pixelsOf(vae, drafts).mul(mask.mul(-1).add(1))) : keptPixels;
  const f = vae.factor;
  const posterior = vae.encode(maskedImage);
  const latents = posteriorNoise ? samplePosterior(posterior, posteriorNoise.to(vae.device).to(vae.dtype)) : posterior.mean;
  return {
    mask,
    maskedImage,
    // Nearest, as torch picks it for a whole factor: the first of each block.
    maskLatents: mask.slice(2, 0, null, f).slice(3, 0, null, f).contiguous(),
    maskedImageLatents: latents.mul(vae.config.scaling_factor),
  };
}

/** Paints the faces; `[N, 3, H, W]`, values 0..1, owned by the caller. */
export async function sampleHead(models: HeadModels, o: HeadSampling): Promise<Tensor> {
  const { unet, controlnet, vae } = models;
  const { sampler } = o;
  const steps = sampler.timesteps.length;
  const { guidanceScale = 3.5, controlnetConditioningScale = 1 } = o;
  const n = o.images.length;
  if (n === 0) throw new TorchError("SHAPE", "no pictures");
  if (o.conditions.length !== n) throw new TorchError("SHAPE", `${n} pictures, but ${o.conditions.length} conditions`);
  const { width, height } = o.images[0];
  if (width % vae.factor !== 0 || height % vae.factor !== 0)
    throw new TorchError("SHAPE", `pictures: expected a size that ${vae.factor} divides, got ${width}x${height}`);
  const channels = vae.config.latent_channels;
  const [h, w] = [height / vae.factor, width / vae.factor];
  if (unet.config.in_channels !== 2 * channels + 1)
    throw new TorchError(
      "CONFIG",
      `the head's UNet: expected in_channels ${2 * channels + 1} (an inpainting model), got ${unet.config.in_channels}`,
    );
  expectShape("noise", o.noise, [1, channels, h, w]);
  const guided = guidanceScale !== 1;
  if (guided && !o.negativePromptEmbeds) throw new TorchError("GUIDANCE", "guidance needs negativePromptEmbeds, or a guidanceScale of 1");
  if (sampler.noisy && !o.stepNoise) throw new TorchError("NOISE", "this sampler adds noise at each step: give stepNoise");
  const branches = guided ? 2 : 1;

  const owned: Tensor[] = [];
  const own = (t: Tensor) => {
    owned.push(keep(t));
    return t;
  };
  const twice = (t: Tensor) => (guided ? cat([t, t], 0) : t);
  const rows = (t: Tensor) =>
    t
      .to(unet.device)
      .to(unet.dtype)
      .expand([n, t.size(1), t.size(2)]);
  try {
    const { further, context, embedded } = scope(() =>
      noGrad(() => {
        const { maskLatents, maskedImageLatents } = headInputs(vae, o.images, o.masks, { posteriorNoise: o.posteriorNoise });
        const sized = o.conditions.map((c) => (c.width === width && c.height === height ? c : resizePil(c, width, height, "lanczos")));
        const condition = stack(sized, "condition").div(255).to(unet.device).to(unet.dtype);
        return {
          further: own(
            twice(cat([maskLatents, maskedImageLatents], 1))
              .to(unet.dtype)
              .contiguous(),
          ),
          context: own(guided ? cat([rows(o.negativePromptEmbeds!), rows(o.promptEmbeds)], 0) : rows(o.promptEmbeds).contiguous()),
          embedded: own(twice(controlnet.condEmbedding.forward(condition))),
        };
      }),
    );
    // Latents stay float32 whatever the networks compute in, as in the body pipeline.
    let x = scope(() => noGrad(() => own(o.noise.to("float32").to(unet.device).expand([n, channels, h, w]).clone())));
    let state: SamplerState = [];
    for (const [k, timestep] of sampler.timesteps.entries()) {
      o.signal?.throwIfAborted();
      const before = x;
      x = scope(() =>
        noGrad(() => {
          const input = twice(before).to(unet.dtype);
          const t = fromData(
            BigInt64Array.from({ length: branches * n }, () => BigInt(timestep)),
            [branches * n],
            { device: unet.device },
          );
          const residuals = controlnet.forwardEmbedded(input, t, context, embedded, { scale: controlnetConditioningScale });
          const predicted = unet
            .forward(cat([input, further], 1), t, context, residuals)
            .to("float32")
            .chunk(branches, 0);
          const output = guided ? predicted[0].add(predicted[1].sub(predicted[0]).mul(guidanceScale)) : predicted[0];
          const next = sampler.step(
            k,
            output,
            before,
            state,
            sampler.noisy ? o.stepNoise!(k).to("float32").to(unet.device).expand([n, channels, h, w]) : undefined,
          );
          for (const t of state) t.dispose();
          state = next.state.map(own);
          return own(next.sample);
        }),
      );
      before.dispose();
      o.onLatents?.(k, x);
      o.onProgress?.(k + 1, steps);
      await breathe();
    }
    return scope(() =>
      noGrad(() => keep(vae.decode(x.div(vae.config.scaling_factor).to(vae.dtype)).to("float32").div(2).add(0.5).clamp(0, 1))),
    );
  } finally {
    for (const t of owned) t.dispose();
  }
}
