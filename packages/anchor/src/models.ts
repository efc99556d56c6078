/** The models of an avatar's body folder, in diffusers' layout. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Generator, scope, noGrad, type Tensor } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPVisionModel,
  clipPixels,
  ControlNetModel,
  DDIMScheduler,
  readConfig,
  UNet2DConditionModel,
  UNet3DConditionModel,
  type SchedulerConfig,
} from "@make-your-anchor/diffusion";
import type { RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { AnchorError } from "./errors.ts";
import { writeJson } from "./files.ts";
import type { Preset } from "./presets.ts";

/** Seed of start weights and of the mini image encoder, which stays as it starts. */
export const startSeed = 20240607;

/** The UNet is built in its form for video, whose weights and 2D forward pass are the same. */
export interface TrainableModels {
  unet: UNet3DConditionModel;
  controlnet: ControlNetModel;
}

export function requireMiniModels(preset: Preset): NonNullable<Preset["models"]> {
  if (preset.models) return preset.models;
  throw new AnchorError(
    "NEEDS_WEIGHTS",
    `the ${preset.name} preset starts from published weights (Stable Diffusion 1.5, ControlNet, CLIP ViT-B/32), which are not here: use the mini preset, or put them into the avatar's body/ folder in diffusers' layout (unet/, controlnet/, vae/, image_encoder/)`,
    { misuse: true },
  );
}

/** UNet and ControlNet with start weights: the ControlNet's way down is the UNet's. */
export function startModels(preset: Preset): TrainableModels {
  const configs = requireMiniModels(preset);
  using g = new Generator(startSeed);
  const unet = new UNet3DConditionModel(configs.unet).initialize(g);
  const controlnet = new ControlNetModel(configs.controlnet).initialize(g).copyFrom(unet);
  return { unet, controlnet };
}

export function startVae(preset: Preset): AutoencoderKL {
  using g = new Generator(startSeed + 1);
  return new AutoencoderKL(requireMiniModels(preset).vae).initialize(g);
}

export function startImageEncoder(preset: Preset): CLIPVisionModel {
  using g = new Generator(startSeed + 2);
  return new CLIPVisionModel(requireMiniModels(preset).imageEncoder).initialize(g);
}

/** Appearance tokens of a picture, `[1, tokens, hidden]`. */
export function embedAppearance(encoder: CLIPVisionModel, picture: RgbImage): Tensor {
  return scope(() => noGrad(() => encoder.forward(clipPixels([picture], encoder.config.image_size)).lastHiddenState));
}

export const bodyParts = ["unet", "controlnet", "vae", "image_encoder", "scheduler"] as const;

export interface LoadedBody {
  unet: UNet3DConditionModel;
  controlnet: ControlNetModel;
  vae: AutoencoderKL;
  imageEncoder: CLIPVisionModel;
  scheduler: DDIMScheduler;
  dispose(): void;
}

/** @throws {AnchorError} `NOT_TRAINED` when a part is missing */
export function loadBody(avatar: Avatar): LoadedBody {
  const folder = avatar.path("body");
  const missing = bodyParts.filter((p) => !existsSync(join(folder, p)));
  if (missing.length > 0) {
    throw new AnchorError(
      "NOT_TRAINED",
      `${folder}: ${missing.join(", ")} missing: train the avatar first with "anchor train ${avatar.info.name} body"`,
      { misuse: true },
    );
  }
  const unet = UNet3DConditionModel.fromPretrained(join(folder, "unet"));
  const controlnet = ControlNetModel.fromPretrained(join(folder, "controlnet"));
  const vae = AutoencoderKL.fromPretrained(join(folder, "vae"));
  const imageEncoder = CLIPVisionModel.fromPretrained(join(folder, "image_encoder"));
  const scheduler = new DDIMScheduler(readConfig(join(folder, "scheduler", "scheduler_config.json")) as Partial<SchedulerConfig>);
  return {
    unet,
    controlnet,
    vae,
    imageEncoder,
    scheduler,
    dispose: () => {
      for (const m of [unet, controlnet, vae, imageEncoder]) m.dispose();
    },
  };
}

export function saveScheduler(folder: string, config: object): void {
  writeJson(join(folder, "scheduler", "scheduler_config.json"), { _class_name: "DDIMScheduler", ...config });
}

/** What diffusers wants to find in a config beside our keys. */
export const diffusersConfig = (m: UNet2DConditionModel | ControlNetModel | AutoencoderKL): object => {
  const extra: Record<string, object> = {
    AutoencoderKL: {
      down_block_types: m.config.block_out_channels && (m.config.block_out_channels as number[]).map(() => "DownEncoderBlock2D"),
      up_block_types: (m.config.block_out_channels as number[]).map(() => "UpDecoderBlock2D"),
      act_fn: "silu",
    },
  };
  const name = m instanceof AutoencoderKL ? "AutoencoderKL" : m instanceof ControlNetModel ? "ControlNetModel" : "UNet2DConditionModel";
  const config: Record<string, unknown> = { _class_name: name, ...extra[name], ...m.config };
  if (m instanceof ControlNetModel) {
    delete config.out_channels;
    delete config.up_block_types;
  }
  return config;
};
