/** Trained models into an avatar, in the layout that diffusers and transformers read. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { saveSafetensors } from "@make-your-anchor/torch";
import { AutoencoderKL, CLIPVisionModel, ControlNetModel, saveModel, type UNet2DConditionModel } from "@make-your-anchor/diffusion";
import type { Avatar } from "../avatar.ts";
import { draftFile, type Draft } from "../draft/draft.ts";
import { makeFolder, replaceFolder, writeJson } from "../files.ts";
import { adapterFile, type PersonAdapter } from "../train/adapter.ts";
import type { Model, Provenance } from "./provenance.ts";
import type { StartedModels } from "./start.ts";

export function saveScheduler(folder: string, config: object): void {
  writeJson(join(folder, "scheduler", "scheduler_config.json"), { _class_name: "DDIMScheduler", ...config });
}

/** What diffusers and transformers want to find in a config beside our keys. */
export const modelConfig = (m: UNet2DConditionModel | ControlNetModel | AutoencoderKL | CLIPVisionModel): object => {
  if (m instanceof CLIPVisionModel) return { architectures: ["CLIPVisionModel"], model_type: "clip_vision_model", ...m.config };
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

/**
 * Puts trained models in the place of an avatar's own, all at once.
 * @param scheduler the noise schedule they were trained with; null where VAE, encoder and schedule are published ones
 */
export function saveTrained(
  avatar: Avatar,
  model: Model,
  { unet, controlnet, vae, encoder }: StartedModels,
  scheduler: object | null,
  { adapter, draft, ...provenance }: Omit<Provenance, "rank"> & { adapter: PersonAdapter | null; draft?: Draft },
): void {
  const fresh = avatar.path(`${model}.new`);
  rmSync(fresh, { recursive: true, force: true });
  if (adapter) {
    makeFolder(fresh);
    saveSafetensors(join(fresh, adapterFile), adapter.stateDict());
  } else {
    saveModel(`${fresh}/unet`, unet, modelConfig(unet));
    saveModel(`${fresh}/controlnet`, controlnet, modelConfig(controlnet));
  }
  draft?.save(join(makeFolder(fresh), draftFile));
  if (scheduler) saveModel(`${fresh}/vae`, vae, modelConfig(vae));
  if (scheduler && !adapter) {
    saveModel(`${fresh}/image_encoder`, encoder, modelConfig(encoder), "model.safetensors");
    saveScheduler(fresh, scheduler);
  }
  writeJson(`${fresh}/training.json`, { ...provenance, rank: adapter?.rank ?? null } satisfies Provenance);
  replaceFolder(fresh, avatar.path(model));
}
