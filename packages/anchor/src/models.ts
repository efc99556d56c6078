/** The models of an avatar's body folder, in diffusers' layout. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  saveSafetensors,
  Generator,
  keep,
  noGrad,
  scope,
  zerosLike,
  type LoadOptions,
  type Module,
  type Tensor,
} from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTokenizer,
  CLIPVisionModel,
  clipPixels,
  ControlNetModel,
  readConfig,
  saveModel,
  UNet2DConditionModel,
  UNet3DConditionModel,
  type SchedulerConfig,
} from "@make-your-anchor/diffusion";
import { readImage, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { AnchorError } from "./errors.ts";
import { Draft, draftFile } from "./draft.ts";
import { makeFolder, pictureFiles, readJson, replaceFolder, writeJson } from "./files.ts";
import { hubOf } from "./hub/cache.ts";
import { requirePublished, type PublishedName } from "./hub/catalogue.ts";
import { presets, type Preset } from "./presets.ts";
import type { Recipe } from "./train/recipe.ts";
import { adapterFile, hasAdapter, PersonAdapter } from "./train/adapter.ts";
import { baseFolder, startFrom } from "./base.ts";
import type { Best } from "./train/validation.ts";

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
  const {
    in_channels,
    down_block_types,
    block_out_channels,
    layers_per_block,
    norm_num_groups,
    norm_eps,
    cross_attention_dim,
    attention_head_dim,
  } = unet.config;
  const controlnet = new ControlNetModel({
    in_channels,
    down_block_types,
    block_out_channels,
    layers_per_block,
    norm_num_groups,
    norm_eps,
    cross_attention_dim,
    attention_head_dim,
  })
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

/** Appearance tokens of a picture, `[1, tokens, hidden]`. */
export function embedAppearance(encoder: CLIPVisionModel, picture: RgbImage): Tensor {
  return scope(() =>
    noGrad(() => encoder.forward(clipPixels([picture], encoder.config.image_size).to(encoder.device).to(encoder.dtype)).lastHiddenState),
  );
}

export const bodyParts = ["unet", "controlnet", "vae", "image_encoder", "scheduler"] as const;
type BodyPart = (typeof bodyParts)[number];

/** Published weights that an avatar's own parts stand upon. */
const publishedParts: Partial<Record<BodyPart | "text_encoder" | "tokenizer", readonly [PublishedName, string]>> = {
  vae: ["sd15", "vae"],
  image_encoder: ["clip-vit-b32", ""],
  scheduler: ["sd15", "scheduler"],
  text_encoder: ["sd15", "text_encoder"],
  tokenizer: ["sd15", "tokenizer"],
};

export type Model = "body" | "head";

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

/** How an avatar's weights came about; `training.json` beside them. */
export interface Provenance {
  /** "nothing", "base", "published" or a folder. */
  from: string;
  recipe: Recipe;
  /** Of the adapters, which are kept in the place of whole weights; null: there are none. */
  rank: number | null;
  steps: number;
  /** The state they are of, by the frames it was tried on; null: the last. */
  best: Best | null;
  /** Held-out frames that the choice looked at: no measure of its result. */
  validated: number[];
  /** Of heads: all of the crop from its draft, or the face alone in its surroundings. Left out of older ones, which are "face". */
  paints?: "crop" | "face";
}

/** Held-out frames that the choice among a model's states looked at. */
export function validatedFrames(avatar: Avatar, model: Model): Set<number> {
  return new Set(provenanceOf(avatar, model)?.validated);
}

/** Left out of weights that were imported. */
function provenanceOf(avatar: Avatar, model: Model): Provenance | undefined {
  const path = avatar.path(model, "training.json");
  if (existsSync(path)) return readJson(path) as Provenance;
  if (hasAdapter(avatar.path(model)))
    throw new AnchorError("ADAPTER", `${path}: missing: it says which weights the adapter beside it belongs to`);
  return undefined;
}
