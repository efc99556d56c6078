/** `import`: weights made elsewhere become an avatar's. */
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { ControlNetModel, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import type { Avatar } from "./avatar.ts";
import { AnchorError } from "./errors.ts";
import { makeFolder, replaceFolder, writeError } from "./files.ts";
import { filesOf } from "./hub/cache.ts";
import type { Model } from "./models/provenance.ts";
import type { WorkOptions } from "./progress.ts";

export interface ImportResult {
  /** What was taken over, like `body/unet`. */
  parts: string[];
  folder: string;
}

const classes = { unet: UNet2DConditionModel, controlnet: ControlNetModel } as const;

/** Where the weights of a person lie: `body/` and `head/` as the original releases them, or one diffusers folder, which is a body's. */
export function modelsIn(folder: string): Map<Model, string> {
  const found = new Map<Model, string>();
  for (const model of ["body", "head"] as const) if (existsSync(join(folder, model))) found.set(model, join(folder, model));
  return found.size > 0 ? found : new Map([["body", folder]]);
}

/**
 * Takes over the weights of a person in the layout the original releases them in (`{body,head}/{unet,controlnet}`, each a diffusers
 * folder), or of one diffusers folder with `unet/` and `controlnet/`. They are read and compared with their configs first; the avatar keeps what it had when
 * anything is wrong.
 * @throws {AnchorError} `IMPORT` when there is nothing to import
 */
export function importWeights(avatar: Avatar, folder: string, o: WorkOptions = {}): ImportResult {
  const models = modelsIn(folder);
  const names = Object.keys(classes) as (keyof typeof classes)[];
  const parts = [...models].flatMap(([model, root]) => names.map((name) => ({ model, name, from: join(root, name) })));
  const missing = parts.filter((p) => !existsSync(join(p.from, "config.json")));
  if (missing.length > 0)
    throw new AnchorError(
      "IMPORT",
      `${folder}: no ${missing.map((p) => (models.size > 1 || p.model === "head" ? `${p.model}/${p.name}` : p.name)).join(" and no ")} there: expected body/unet and body/controlnet (or unet and controlnet; head/unet and head/controlnet beside them), each with config.json and weights`,
      { misuse: true },
    );
  for (const { model, name, from } of parts) {
    using weights = classes[name].fromPretrained(from); // mapped, so this costs no memory to speak of
    const channels = (weights.config as { in_channels: number }).in_channels;
    // An inpainting UNet sees mask and masked picture too; its ControlNet does not.
    if (name === "unet" && (model === "head") !== (channels % 2 === 1))
      throw new AnchorError(
        "IMPORT",
        `${from}: a UNet with ${channels} input channels is ${model === "head" ? "no inpainting model, as the head's must be" : "an inpainting model, not a body's"}`,
        { misuse: true },
      );
  }
  const fresh = avatar.path("import.new");
  rmSync(fresh, { recursive: true, force: true });
  const files = parts.flatMap(({ model, name, from }) =>
    filesOf(from).map((f) => ({ from: join(from, f.name), to: join(fresh, model, name, f.name), size: f.size })),
  );
  const total = files.reduce((n, f) => n + f.size, 0);
  const mib = (bytes: number) => Math.ceil(bytes / 2 ** 20);
  try {
    let done = 0;
    for (const f of files) {
      o.signal?.throwIfAborted();
      makeFolder(dirname(f.to));
      try {
        copyFileSync(f.from, f.to);
      } catch (cause) {
        throw writeError(f.to, cause);
      }
      done += f.size;
      o.onProgress?.({ stage: "copying weights", done: mib(done), total: mib(total), unit: "MiB" });
    }
    for (const { model, name } of parts) {
      makeFolder(avatar.path(model));
      replaceFolder(join(fresh, model, name), avatar.path(model, name));
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return { parts: parts.map((p) => `${p.model}/${p.name}`), folder: avatar.folder };
}
