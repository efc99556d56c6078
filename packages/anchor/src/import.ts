/** `import`: weights made elsewhere become an avatar's. */
import { copyFileSync, existsSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { ControlNetModel, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import type { Avatar } from "./avatar.ts";
import { AnchorError } from "./errors.ts";
import { makeFolder, writeError } from "./files.ts";
import { filesOf } from "./hub/cache.ts";
import type { WorkOptions } from "./progress.ts";

export interface ImportResult {
  /** What was taken over, like `body/unet`. */
  parts: string[];
  folder: string;
}

const classes = { unet: UNet2DConditionModel, controlnet: ControlNetModel } as const;

/**
 * Takes over the weights of a person in the layout the original releases them in (`body/{unet,controlnet}`, each a diffusers
 * folder), or of one diffusers folder with `unet/` and `controlnet/`. They are read and compared with their configs first; the avatar keeps what it had when
 * anything is wrong.
 * @throws {AnchorError} `IMPORT` when there is nothing to import
 */
export function importWeights(avatar: Avatar, folder: string, o: WorkOptions = {}): ImportResult {
  const root = existsSync(join(folder, "body")) ? join(folder, "body") : folder;
  const names = Object.keys(classes) as (keyof typeof classes)[];
  const missing = names.filter((n) => !existsSync(join(root, n, "config.json")));
  if (missing.length > 0)
    throw new AnchorError(
      "IMPORT",
      `${folder}: no ${missing.join(" and no ")} there: expected body/unet and body/controlnet (or unet and controlnet), each with config.json and weights`,
      { misuse: true },
    );
  for (const name of names) {
    using model = classes[name].fromPretrained(join(root, name)); // mapped, so this costs no memory to speak of
    void model;
  }
  const target = avatar.path("body");
  const fresh = avatar.path("body.new");
  rmSync(fresh, { recursive: true, force: true });
  const files = names.flatMap((n) =>
    filesOf(join(root, n)).map((f) => ({ from: join(root, n, f.name), to: join(fresh, n, f.name), size: f.size })),
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
    for (const name of names) {
      const old = avatar.path(`${name}.old`);
      rmSync(old, { recursive: true, force: true });
      if (existsSync(join(target, name))) renameSync(join(target, name), old);
      makeFolder(target);
      renameSync(join(fresh, name), join(target, name));
      rmSync(old, { recursive: true, force: true });
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return { parts: names.map((n) => `body/${n}`), folder: target };
}
