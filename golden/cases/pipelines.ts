/** Whole sampling runs: bodies over windows of frames, heads picture by picture. */
import { readdirSync } from "node:fs";
import { fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  ControlNetModel,
  DDIMSampler,
  headInputs,
  readConfig,
  sampleBody,
  sampleHead,
  UNet2DConditionModel,
  UNet3DConditionModel,
  type BodySampling,
} from "@make-your-anchor/diffusion";
import { bytesRounded, bytesTruncated, readImage } from "@make-your-anchor/media";
import type { GoldenCase } from "../case.ts";
import { onto } from "./networks.ts";

/** What a body case samples with; models owned by the caller. */
export function bodySetup(g: GoldenCase) {
  const c = g.json.config;
  const folder = g.path("frames");
  const frames = readdirSync(folder).sort();
  const models = {
    unet: UNet3DConditionModel.fromPretrained(g.model("unet"), onto(g)),
    controlnet: ControlNetModel.fromPretrained(g.model("controlnet"), onto(g)),
    vae: AutoencoderKL.fromPretrained(g.model("vae"), onto(g)),
  };
  const sampling: BodySampling = {
    sampler: new DDIMSampler(readConfig(g.namedFile(c.scheduler as string)), c.num_inference_steps, c.eta),
    frames: c.video_length,
    condition: (i) => readImage(`${folder}/${frames[i]}`),
    promptEmbeds: g.input("prompt_embeds"),
    negativePromptEmbeds: g.input("negative_prompt_embeds"),
    noise: g.input("latents"),
    width: c.width,
    height: c.height,
    windowSize: c.window_size,
    windowOverlap: c.window_overlap,
    guidanceScale: c.guidance_scale,
    controlnetConditioningScale: c.controlnet_conditioning_scale,
  };
  return { models, sampling };
}

/** Frames by frame, `[C, h·w]` each, put together as `[C, F, h·w]`. */
function channelsFirst(frames: readonly Float32Array[], channels: number): Float32Array {
  const plane = frames[0].length / channels;
  const out = new Float32Array(frames.length * frames[0].length);
  frames.forEach((x, f) => {
    for (let k = 0; k < channels; k++) out.set(x.subarray(k * plane, (k + 1) * plane), (k * frames.length + f) * plane);
  });
  return out;
}

/** `[3, H·W]` floats → `[H·W, 3]` bytes. */
function interleaved(x: Float32Array, toBytes: (x: Float32Array) => Uint8Array): Uint8Array {
  const bytes = toBytes(x);
  const plane = bytes.length / 3;
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < plane; i++) for (let k = 0; k < 3; k++) out[i * 3 + k] = bytes[k * plane + i];
  return out;
}

export async function bodyPipeline(g: GoldenCase): Promise<void> {
  const { models, sampling } = bodySetup(g);
  const latents: Float32Array[][] = Array.from({ length: sampling.sampler.timesteps.length }, () => []);
  const onLatents = (step: number, from: number, t: Tensor) => {
    for (let i = 0; i < t.size(0); i++) latents[step][from + i] = scope(() => t.select(0, i).to("cpu").floats());
  };
  const frames: Float32Array[] = [];
  for await (const { index, pixels } of sampleBody(models, { ...sampling, onLatents })) frames[index] = pixels;
  const channels = sampling.noise.size(1);
  latents.forEach((perFrame, step) => g.check(`latents.step${step}`, channelsFirst(perFrame, channels)));
  g.check("video", channelsFirst(frames, 3));
  g.check("png_u8", Buffer.concat(frames.map((x) => interleaved(x, bytesTruncated))));
  for (const m of [models.unet, models.controlnet, models.vae]) m.dispose();
}

export async function headPipeline(g: GoldenCase): Promise<void> {
  const c = g.json.config;
  const pictures = (key: string) => {
    const folder = g.path((g.json.images[key] as string).split("/")[0]);
    return Promise.all(
      readdirSync(folder)
        .sort()
        .map((f) => readImage(`${folder}/${f}`)),
    );
  };
  const [images, masks, conditions] = await Promise.all(["image", "mask_image", "control_image"].map(pictures));
  using unet = UNet2DConditionModel.fromPretrained(g.model("unet"), onto(g));
  using controlnet = ControlNetModel.fromPretrained(g.model("controlnet"), onto(g));
  using vae = AutoencoderKL.fromPretrained(g.model("vae"), onto(g));
  const posteriorNoise = g.input("vae_posterior_noise");
  scope(() =>
    noGrad(() => {
      const seen = headInputs(vae, images, masks, { posteriorNoise });
      g.check("mask", seen.mask);
      g.check("masked_image", seen.maskedImage);
      g.check("mask_latents", seen.maskLatents);
      g.check("masked_image_latents", seen.maskedImageLatents);
    }),
  );
  using painted = await sampleHead(
    { unet, controlnet, vae },
    {
      images,
      masks,
      conditions,
      promptEmbeds: g.input("prompt_embeds"),
      negativePromptEmbeds: g.input("negative_prompt_embeds"),
      noise: g.input("latents"),
      posteriorNoise,
      sampler: new DDIMSampler(readConfig(g.namedFile(c.scheduler as string)), c.num_inference_steps, c.eta),
      guidanceScale: c.guidance_scale,
      controlnetConditioningScale: c.controlnet_conditioning_scale,
      onLatents: (step, latents) => g.check(`latents.step${step}`, latents),
    },
  );
  scope(() => {
    g.check("images", painted.permute([0, 2, 3, 1]));
    const [n, , height, width] = painted.shape;
    const each = Array.from({ length: n }, (_, i) => painted.select(0, i).to("cpu").floats());
    const bytes = Buffer.concat(each.map((x) => interleaved(x, bytesRounded)));
    g.check("png_u8", fromData(new Uint8Array(bytes), [n, height, width, 3]));
  });
}
