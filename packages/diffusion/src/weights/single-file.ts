/** Models from one file: Stable Diffusion 1.x checkpoints as they are passed around. */
import type { LoadOptions, Module } from "@make-your-anchor/torch";
import { AutoencoderKL } from "../models/autoencoder-kl.ts";
import { CLIPTextModel } from "../models/clip.ts";
import { ControlNetModel } from "../models/controlnet.ts";
import { UNet3DConditionModel } from "../models/unet-2d-condition.ts";
import { singleFileParts, type SingleFileConfigs, type SingleFilePart, type SingleFileParts } from "./compvis.ts";
import { openWeightsFile } from "./source.ts";

export interface SingleFileModels {
  /** In its form for video; its weights and 2D forward pass are the same. */
  unet?: UNet3DConditionModel;
  controlnet?: ControlNetModel;
  vae?: AutoencoderKL;
  textEncoder?: CLIPTextModel;
}

/** Which parts of a file to load; default all it has. */
export type SingleFilePartName = keyof SingleFileParts;

export interface SingleFileLoad extends Omit<LoadOptions, "rename" | "what"> {
  parts?: readonly SingleFilePartName[];
  /** Config keys that no shape tells (attention_head_dim, norm_num_groups …), where they are not Stable Diffusion 1.x's. */
  configs?: SingleFileConfigs;
}

/**
 * Loads a .ckpt or .safetensors in CompVis' naming (also a ControlNet alone).
 * @throws {ConfigError} when it is no Stable Diffusion 1.x checkpoint; {StateDictError} when weights are missing or misshapen
 */
export function loadSingleFile(path: string, o: SingleFileLoad = {}): SingleFileModels {
  using file = openWeightsFile(path);
  const parts = singleFileParts(file, o.configs);
  const wanted = (name: SingleFilePartName): SingleFilePart | undefined => (!o.parts || o.parts.includes(name) ? parts[name] : undefined);
  const made: Module[] = [];
  const load = <M extends Module>(name: SingleFilePartName, make: (config: Record<string, unknown>) => M): M | undefined => {
    const part = wanted(name);
    if (!part) return undefined;
    const model = make(part.config);
    made.push(model);
    return model.loadStateDict(part.source, { what: `${path} (${name})`, dtype: o.dtype, device: o.device });
  };
  try {
    return {
      unet: load("unet", (c) => new UNet3DConditionModel(c)),
      controlnet: load("controlnet", (c) => new ControlNetModel(c)),
      vae: load("vae", (c) => new AutoencoderKL(c)),
      textEncoder: load("text_encoder", (c) => new CLIPTextModel(c)),
    };
  } catch (error) {
    for (const model of made) model.dispose();
    throw error;
  }
}
