/** What training starts from: start weights, or published ones. */
import { join } from "node:path";
import { Generator } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPVisionModel,
  ControlNetModel,
  readConfig,
  UNet3DConditionModel,
  type SchedulerConfig,
} from "@make-your-anchor/diffusion";
import { hubOf } from "../hub/cache.ts";
import { requirePublished } from "../hub/catalogue.ts";
import type { Preset } from "../presets.ts";

/** Seed of start weights and of the mini image encoder, which stays as it starts. */
export const startSeed = 20240607;

/** What training works on; the UNet in its form for video, whose weights and 2D forward pass are the same. */
export interface StartedModels {
  unet: UNet3DConditionModel;
  controlnet: ControlNetModel;
  vae: AutoencoderKL;
  encoder: CLIPVisionModel;
}

/** The mini preset's models with start weights: the ControlNet's way down is the UNet's. */
export function startFromNothing(configs: NonNullable<Preset["models"]>): StartedModels {
  using g = new Generator(startSeed);
  const unet = new UNet3DConditionModel(configs.unet).initialize(g);
  const controlnet = new ControlNetModel(configs.controlnet).initialize(g).copyFrom(unet);
  using forVae = new Generator(startSeed + 1);
  const vae = new AutoencoderKL(configs.vae).initialize(forVae);
  using forEncoder = new Generator(startSeed + 2);
  return { unet, controlnet, vae, encoder: new CLIPVisionModel(configs.imageEncoder).initialize(forEncoder) };
}

/** Published weights; a ControlNet whose way down is the UNet's, as the original starts where it has none. */
export function startFromPublished(): StartedModels {
  const hub = hubOf();
  const base = requirePublished(hub, "sd15");
  const clip = requirePublished(hub, "clip-vit-b32");
  const unet = UNet3DConditionModel.fromPretrained(join(base, "unet"));
  using g = new Generator(startSeed);
  const { in_channels, down_block_types, block_out_channels, layers_per_block, ...rest } = unet.config;
  const { norm_num_groups, norm_eps, cross_attention_dim, attention_head_dim } = rest;
  const down = { in_channels, down_block_types, block_out_channels, layers_per_block };
  const controlnet = new ControlNetModel({ ...down, norm_num_groups, norm_eps, cross_attention_dim, attention_head_dim })
    .initialize(g)
    .copyFrom(unet);
  const vae = AutoencoderKL.fromPretrained(join(base, "vae"));
  return { unet, controlnet, vae, encoder: CLIPVisionModel.fromPretrained(clip) };
}

/** The head's published models: the inpainting UNet, and a ControlNet from the plain one. */
export function startHeadFromPublished(): StartedModels {
  // The original starts a missing head ControlNet from the 4-channel UNet, not from the inpainting one.
  const inpainting = requirePublished(hubOf(), "sd-inpainting"); // before gigabytes are opened
  const { unet: plain, ...rest } = startFromPublished();
  plain.dispose();
  return { ...rest, unet: UNet3DConditionModel.fromPretrained(join(inpainting, "unet")) };
}

/** The noise schedule beside the published weights. */
export const publishedScheduler = (): Partial<SchedulerConfig> =>
  readConfig(join(requirePublished(hubOf(), "sd15"), "scheduler", "scheduler_config.json")) as Partial<SchedulerConfig>;
