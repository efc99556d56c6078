/** What tells whether an avatar's weights are still those that something was made with. */
import { statSync } from "node:fs";
import type { Avatar } from "./avatar.ts";
import { filesOf } from "./hub/cache.ts";
import type { Model } from "./models/provenance.ts";
import { adapterFile } from "./train/adapter.ts";

/** Sizes and times of a model's files. */
export const weightsMark = (avatar: Avatar, model: Model): string =>
  filesOf(avatar.path(model))
    .filter(({ name }) => name === adapterFile || /^(unet|controlnet|vae)\//.test(name))
    .map(({ name, size }) => `${name}:${size}:${statSync(avatar.path(model, name)).mtimeMs}`)
    .join();
