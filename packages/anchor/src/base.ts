/** The base of the mini preset: what stage 1 gives, and what a person's training starts from. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cat, keep, noGrad, scope, sourceOf } from "@make-your-anchor/torch";
import { AutoencoderKL, CLIPVisionModel, ControlNetModel, UNet3DConditionModel } from "@make-your-anchor/diffusion";
import type { AvatarInfo } from "./avatar.ts";
import { AnchorError } from "./errors.ts";
import type { Model } from "./models/provenance.ts";
import { startFromNothing, startFromPublished, startHeadFromPublished, type StartedModels } from "./models/start.ts";
import { modelsIn } from "./import.ts";
import { presets, type Preset } from "./presets.ts";

/** The base that comes with the package; its README.md says what it was trained on. */
export const shippedBase = fileURLToPath(new URL("../base/mini", import.meta.url));

/** @param from "base", or a folder */
export const baseFolder = (from: string): string => (from === "base" ? shippedBase : from);

/** Parts of a base's folder. */
export const baseParts = ["vae", "denoiser/unet", "denoiser/controlnet", "denoiser/image_encoder", "denoiser/scheduler"] as const;

/**
 * A base's models in float32.
 * @param model "body": the UNet without the channel for the mask, which is zero where nothing is kept, and with drafts where masked pictures were; "head": whole
 * @throws {AnchorError} `NO_BASE` when a part is missing
 */
export function startFromBase(folder: string, model: Model = "head"): StartedModels {
  const missing = baseParts.filter((p) => !existsSync(join(folder, p)));
  if (missing.length > 0)
    throw new AnchorError(
      "NO_BASE",
      `${folder}: ${missing.join(", ")} missing: expected the folder that "anchor pretrain vae" and "anchor pretrain denoiser" write`,
      { misuse: true },
    );
  const part = (name: string) => join(folder, "denoiser", name);
  const vae = AutoencoderKL.fromPretrained(join(folder, "vae"));
  const controlnet = ControlNetModel.fromPretrained(part("controlnet"));
  const encoder = CLIPVisionModel.fromPretrained(part("image_encoder"));
  const whole = UNet3DConditionModel.fromPretrained(part("unet"));
  return { unet: model === "head" ? whole : withoutMask(whole), controlnet, vae, encoder };
}

/**
 * What `--from` means to a preset, as a run remembers it.
 * @param from "base", "nothing" or a folder; left out, the base where the preset has one, else the published weights
 * @throws {AnchorError} `OPTION` where the preset cannot start so
 */
export function resolveFrom(preset: Preset, from: string | undefined): string {
  const { models, name } = preset;
  if (from === "nothing" && models === null)
    throw new AnchorError("OPTION", `--from nothing: the ${name} preset starts from published weights; leave it out`, { misuse: true });
  if (from !== undefined && from !== "base") return from;
  return models === null ? "published" : "base";
}

/**
 * What is to be said before an avatar is trained whose condition frames are not what the base was trained on; undefined where all is well.
 * @param from of `TrainOptions`
 */
export function unlikeBase(info: Pick<AvatarInfo, "preset" | "conditionStyle">, from?: string): string | undefined {
  const preset = presets[info.preset];
  if (resolveFrom(preset, from) !== "base" || info.conditionStyle === preset.conditionStyle) return undefined;
  return `its condition frames are ${info.conditionStyle}, but the base knows ${preset.conditionStyle} ones, so it will learn more slowly; "anchor create --force" makes it anew with those`;
}

/**
 * Models to train on.
 * @param from as `resolveFrom` gives it. Of the full-size preset a folder holds UNet and ControlNet, as `importWeights` takes them
 */
export function startFrom(preset: Preset, model: Model, from: string): StartedModels {
  const configs = model === "head" ? preset.head.models : preset.models;
  if (configs !== null) return from === "nothing" ? startFromNothing(configs) : startFromBase(baseFolder(from), model);
  const published = model === "head" ? startHeadFromPublished() : startFromPublished();
  if (from === "published") return published;
  const root = modelsIn(from).get(model);
  if (root === undefined || !existsSync(join(root, "unet")) || !existsSync(join(root, "controlnet")))
    throw new AnchorError("NO_BASE", `${from}: no ${model}/unet and ${model}/controlnet there, each with config.json and weights`, {
      misuse: true,
    });
  for (const m of [published.unet, published.controlnet]) m.dispose();
  return {
    ...published,
    unet: UNet3DConditionModel.fromPretrained(join(root, "unet")),
    controlnet: ControlNetModel.fromPretrained(join(root, "controlnet")),
  };
}

/** The UNet of an inpainting one that is given a zero mask, exactly. `unet` is freed. */
function withoutMask(unet: UNet3DConditionModel): UNet3DConditionModel {
  const channels = unet.config.out_channels;
  const body = new UNet3DConditionModel({ ...unet.config, in_channels: 2 * channels });
  const weights = unet.stateDict();
  const first = weights.get("conv_in.weight")!;
  // Noisy latents, the mask, the masked picture.
  const narrowed = scope(() => noGrad(() => keep(cat([first.narrow(1, 0, channels), first.narrow(1, channels + 1, channels)], 1))));
  body.loadStateDict(sourceOf(new Map(weights).set("conv_in.weight", narrowed)));
  narrowed.dispose();
  unet.dispose();
  return body;
}
