/** An avatar's models as they are on the disk. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { keep, noGrad, scope, zerosLike, type LoadOptions, type Module, type Tensor } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTokenizer,
  CLIPVisionModel,
  clipPixels,
  ControlNetModel,
  readConfig,
  UNet3DConditionModel,
  type SchedulerConfig,
} from "@make-your-anchor/diffusion";
import { readImage, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { baseFolder, startFrom } from "../base.ts";
import { Draft, draftFile } from "../draft/draft.ts";
import { AnchorError } from "../errors.ts";
import { pictureFiles } from "../files.ts";
import { hubOf } from "../hub/cache.ts";
import { requirePublished, type PublishedName } from "../hub/catalogue.ts";
import { presets } from "../presets.ts";
import { hasAdapter, PersonAdapter } from "../train/adapter.ts";
import { provenanceOf, type Model } from "./provenance.ts";

/** Appearance tokens of a picture, `[1, tokens, hidden]`. */
export function embedAppearance(encoder: CLIPVisionModel, picture: RgbImage): Tensor {
  return scope(() =>
    noGrad(() => encoder.forward(clipPixels([picture], encoder.config.image_size).to(encoder.device).to(encoder.dtype)).lastHiddenState),
  );
}

const bodyParts = ["unet", "controlnet", "vae", "image_encoder", "scheduler"] as const;
type BodyPart = (typeof bodyParts)[number];

/** Published weights that an avatar's own parts stand upon. */
const publishedParts: Partial<Record<BodyPart | "text_encoder" | "tokenizer", readonly [PublishedName, string]>> = {
  vae: ["sd15", "vae"],
  image_encoder: ["clip-vit-b32", ""],
  scheduler: ["sd15", "scheduler"],
  text_encoder: ["sd15", "text_encoder"],
  tokenizer: ["sd15", "tokenizer"],
};

/** Folder of a part: the avatar's own where it has one, else the published one its preset builds on. */
function partFolder(avatar: Avatar, part: BodyPart | keyof typeof publishedParts, model: Model = "body"): string {
  const own = avatar.path(model, part);
  if (existsSync(own)) return own;
  if (hasAdapter(avatar.path(model)) && (part === "image_encoder" || part === "scheduler") && presets[avatar.info.preset].models !== null)
    return join(baseFolder(provenanceOf(avatar, model)!.from), "denoiser", part);
  const buildsOnPublished = presets[avatar.info.preset].models === null;
  const published = buildsOnPublished ? publishedParts[part] : undefined;
  if (published) return join(requirePublished(hubOf(), published[0]), published[1]);
  const missing = bodyParts.filter((p) => !existsSync(avatar.path(model, p)) && !(buildsOnPublished && publishedParts[p]));
  throw new AnchorError(
    "NOT_TRAINED",
    `${avatar.path(model)}: ${missing.join(", ")} missing: train the avatar first with "anchor train ${avatar.info.name} ${model}"${buildsOnPublished ? `, or take over trained weights with "anchor import ${avatar.info.name} --weights FOLDER"` : ""}`,
    { misuse: true },
  );
}

export interface Prompts {
  /** Appearance of the reference picture, `[1, tokens, hidden]`. */
  promptEmbeds: Tensor;
  /** What guidance leads away from, of the same shape; only where it was asked for. */
  negativePromptEmbeds?: Tensor;
}

/**
 * The reference picture's tokens, and the other branch of the guidance: the text encoder's answer to `negative`, padded to as many tokens
 * as the picture has (so does the original, with an empty text); zeros where the preset has no text encoder. The caller owns them; the
 * encoders are gone when it returns.
 */
export async function embedPrompts(
  avatar: Avatar,
  guided: boolean,
  negative = "",
  load: LoadOptions = {},
  model: Model = "body",
): Promise<Prompts> {
  const picture = await readImage(model === "body" ? avatar.referencePath : headReference(avatar));
  using encoder = CLIPVisionModel.fromPretrained(partFolder(avatar, "image_encoder", model), load);
  const promptEmbeds = keep(embedAppearance(encoder, picture));
  if (!guided) return { promptEmbeds };
  try {
    if (presets[avatar.info.preset].models !== null) {
      if (negative !== "")
        throw new AnchorError("OPTION", `the ${avatar.info.preset} preset has no text encoder: leave the negative prompt out`, {
          misuse: true,
        });
      return { promptEmbeds, negativePromptEmbeds: keep(noGrad(() => zerosLike(promptEmbeds))) };
    }
    const tokenizer = CLIPTokenizer.fromPretrained(partFolder(avatar, "tokenizer"));
    using text = CLIPTextModel.fromPretrained(partFolder(avatar, "text_encoder"), load);
    const negativePromptEmbeds = scope(() =>
      noGrad(() => keep(text.forward(tokenizer.encodeBatch([negative], promptEmbeds.size(1)).to(text.device)))),
    );
    return { promptEmbeds, negativePromptEmbeds };
  } catch (error) {
    promptEmbeds.dispose();
    throw error;
  }
}

/** The picture the head's appearance is taken from: the first crop of the part that was trained on. */
function headReference(avatar: Avatar): string {
  const folder = avatar.path("heads", "aligned");
  const first = existsSync(folder) ? pictureFiles(folder)[0] : undefined;
  if (first) return first;
  throw new AnchorError("NO_HEADS", `${folder}: no head crops to take the appearance from: call prepareHeads first`);
}

export interface LoadedModels {
  unet: UNet3DConditionModel;
  controlnet: ControlNetModel;
  vae: AutoencoderKL;
  /** As scheduler_config.json has it. */
  scheduler: Partial<SchedulerConfig>;
  /** What frames, or faces in their crops, are painted from; of models that are. */
  draft?: Draft;
  /** See `Provenance`. */
  paints: "crop" | "face";
  dispose(): void;
}

/** @throws {AnchorError} `NOT_TRAINED` when a part of the avatar's own is missing, `NEEDS_WEIGHTS` when a published one is, `DRAFT` when its draft is */
export function loadModels(avatar: Avatar, model: Model, load: LoadOptions = {}): LoadedModels {
  const made: Module[] = [];
  const own = <M extends Module>(model: M): M => {
    made.push(model);
    return model;
  };
  const dispose = () => {
    for (const m of made) m.dispose();
  };
  // A body that paints from drafts takes one beside its noisy latents; a head has room for one anyway.
  const draftOf = ({ config }: UNet3DConditionModel) => {
    const path = avatar.path(model, draftFile);
    return config.in_channels === 2 * config.out_channels || existsSync(path) ? Draft.load(path) : undefined;
  };
  try {
    const adapted = hasAdapter(avatar.path(model));
    const provenance = provenanceOf(avatar, model);
    const paints = provenance?.paints ?? "face";
    if (adapted) {
      const started = startFrom(presets[avatar.info.preset], model, provenance!.from);
      for (const m of [started.unet, started.controlnet]) own(m);
      for (const m of [started.vae, started.encoder]) m.dispose();
      PersonAdapter.mergeFrom(avatar.path(model), started);
      for (const m of [started.unet, started.controlnet]) for (const to of [load.dtype, load.device]) if (to !== undefined) m.to(to);
      return {
        unet: started.unet,
        controlnet: started.controlnet,
        vae: own(AutoencoderKL.fromPretrained(partFolder(avatar, "vae", model), load)),
        scheduler: readConfig(join(partFolder(avatar, "scheduler", model), "scheduler_config.json")) as Partial<SchedulerConfig>,
        draft: draftOf(started.unet),
        paints,
        dispose,
      };
    }
    // Named in one sentence before the first is read.
    const folders = Object.fromEntries(bodyParts.map((part) => [part, partFolder(avatar, part, model)])) as Record<BodyPart, string>;
    const unet = own(UNet3DConditionModel.fromPretrained(folders.unet, load));
    return {
      unet,
      controlnet: own(ControlNetModel.fromPretrained(folders.controlnet, load)),
      vae: own(AutoencoderKL.fromPretrained(folders.vae, load)),
      scheduler: readConfig(join(folders.scheduler, "scheduler_config.json")) as Partial<SchedulerConfig>,
      draft: draftOf(unet),
      paints,
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** `loadModels`' VAE of the body alone. */
export const loadVae = (avatar: Avatar, load: LoadOptions = {}): AutoencoderKL =>
  AutoencoderKL.fromPretrained(partFolder(avatar, "vae"), load);
