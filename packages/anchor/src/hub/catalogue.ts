/** Published weights by short names: where they are, which files of them are used, and under which licence. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { AnchorError } from "../errors.ts";
import { cachedSnapshot, filesOf, parseRepo, type Hub, type RepoId } from "./cache.ts";

export interface Published extends RepoId {
  readonly name: string;
  readonly what: string;
  readonly licence: string;
  /** Folders of the repository that are used, `""` for its top; each must hold a config and weights. */
  readonly parts: readonly string[];
  /** About, GiB. */
  readonly size: number;
}

export const catalogue = {
  sd15: {
    name: "sd15",
    repo: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision: "main",
    what: "Stable Diffusion 1.5: UNet, VAE, text encoder, tokenizer",
    licence: "CreativeML Open RAIL-M (commercial use allowed, with use restrictions)",
    parts: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
    size: 4.0,
  },
  "sd-inpainting": {
    name: "sd-inpainting",
    repo: "stable-diffusion-v1-5/stable-diffusion-inpainting",
    revision: "main",
    what: "Stable Diffusion 1.5 for inpainting: UNet of the face stage",
    licence: "CreativeML Open RAIL-M (commercial use allowed, with use restrictions)",
    parts: ["unet", "scheduler"],
    size: 3.2,
  },
  "clip-vit-b32": {
    name: "clip-vit-b32",
    repo: "openai/clip-vit-base-patch32",
    revision: "main",
    what: "CLIP ViT-B/32: turns the reference picture into the appearance tokens",
    licence: "MIT (code and weights as published by OpenAI)",
    parts: [""],
    size: 0.6,
  },
} as const satisfies Record<string, Published>;
export type PublishedName = keyof typeof catalogue;

/** A short name of the catalogue, or a repository of its own: then every part of it is taken. */
export function findPublished(text: string): Published {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  if (Object.hasOwn(catalogue, name)) {
    const entry: Published = catalogue[name as PublishedName];
    return at < 0 ? entry : { ...entry, revision: parseRepo(`x/y${text.slice(at)}`).revision };
  }
  if (!text.includes("/"))
    throw new AnchorError(
      "REPO",
      `"${text}": neither one of ${Object.keys(catalogue).join(", ")} nor a repository like owner/name[@revision]`,
      { misuse: true },
    );
  return { ...parseRepo(text), name: text, what: text, licence: "see its model card", parts: [], size: 0 };
}

const isWeights = (name: string) => /\.(safetensors|bin|pth|ckpt|msgpack|h5|onnx|pt|ot)$/.test(name);
/** Half-precision and moving-average copies of the same weights. */
const isVariant = (name: string) => /\.(fp16|non_ema|fp32|bf16)[.-]/.test(name);

/**
 * Which of a repository's files to fetch: of the parts in use, the configs and one form of the weights, safetensors before
 * Python's. Of a repository outside the catalogue, every folder that has a config (and the top where it has).
 */
export function chooseFiles(entry: Published, files: readonly string[]): string[] {
  const folderOf = (f: string) => (f.includes("/") ? f.slice(0, f.lastIndexOf("/")) : "");
  const folders = [...new Set(files.map(folderOf))];
  const known = entry.parts.length > 0;
  const wanted = known ? entry.parts : folders.filter((d) => !/safety_checker|feature_extractor/.test(d));
  const out: string[] = [];
  for (const part of wanted) {
    const here = files.filter((f) => folderOf(f) === part);
    // A whole pipeline's top holds single-file copies of what its folders hold.
    const isPipeline = part === "" && here.some((f) => f === "model_index.json");
    const small = here.filter((f) => !isWeights(f) && (!known || /\.(json|txt|model)$/.test(f)) && !/^\.|\.(png|jpe?g|gif|mp4)$/.test(f));
    const weights = isPipeline ? [] : here.filter((f) => isWeights(f) && !isVariant(f));
    const best = ["safetensors", "bin", "pth", "ckpt", "pt"]
      .map((e) => weights.filter((f) => f.endsWith(`.${e}`)))
      .find((list) => list.length > 0);
    out.push(...small, ...(best ?? []));
  }
  return [...new Set(out)].sort();
}

export interface PublishedStatus extends Published {
  readonly present: boolean;
  /** The folder of its files, where it is here. */
  readonly folder?: string;
  readonly bytes: number;
  /** What is missing of it, where a part of it is here. */
  readonly missing: readonly string[];
  /** What to type. */
  readonly command: string;
}

/** Whether a catalogue entry is in the cache, whole. */
export function publishedStatus(hub: Hub, entry: Published): PublishedStatus {
  const folder = cachedSnapshot(hub, entry);
  const files = folder ? filesOf(folder) : [];
  const missing = entry.parts.filter((part) => {
    if (!folder) return true;
    const here = files.filter((f) => (f.name.includes("/") ? f.name.slice(0, f.name.lastIndexOf("/")) : "") === part).map((f) => f.name);
    const needsWeights = part !== "tokenizer" && part !== "scheduler";
    return here.length === 0 || (needsWeights && !(existsSync(join(folder, part, "config.json")) && here.some(isWeights)));
  });
  return {
    ...entry,
    present: folder !== undefined && missing.length === 0,
    folder,
    bytes: files.reduce((n, f) => n + f.size, 0),
    missing: folder ? missing : [],
    command: `anchor pull ${entry.name}`,
  };
}

/** The folder of a part that must be here. @throws {AnchorError} `NEEDS_WEIGHTS` naming the command that fetches it */
export function requirePublished(hub: Hub, name: PublishedName): string {
  const status = publishedStatus(hub, catalogue[name]);
  if (status.present) return status.folder!;
  throw new AnchorError(
    "NEEDS_WEIGHTS",
    `${status.what} is not here${status.missing.length > 0 ? ` whole (${status.missing.join(", ")} missing)` : ""}: fetch it with "${status.command}" (${status.size} GiB; ${status.licence}), or set HF_HOME to where it lies`,
    { misuse: true },
  );
}
