/** How an avatar's weights came about. */
import { existsSync } from "node:fs";
import type { Avatar } from "../avatar.ts";
import { AnchorError } from "../errors.ts";
import { readJson } from "../files.ts";
import { hasAdapter } from "../train/adapter.ts";
import type { Recipe } from "../train/recipe.ts";
import type { Best } from "../train/validation.ts";

export type Model = "body" | "head";

/** `training.json` beside the weights. */
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

/** Left out of weights that were imported. @throws {AnchorError} `ADAPTER` where an adapter's is missing */
export function provenanceOf(avatar: Avatar, model: Model): Provenance | undefined {
  const path = avatar.path(model, "training.json");
  if (existsSync(path)) return readJson(path) as Provenance;
  if (hasAdapter(avatar.path(model)))
    throw new AnchorError("ADAPTER", `${path}: missing: it says which weights the adapter beside it belongs to`);
  return undefined;
}
