/** How weights are trained: everything about a training but what is trained on. */
import { z } from "zod";
import { cosine } from "@make-your-anchor/torch";
import type { Training } from "../presets.ts";
import { AnchorError } from "../errors.ts";

const positive = z.number().positive();
const share = z.number().min(0).max(1);

export const recipeSchema = z.object({
  /** Samples of a step, and how many batches of them a step adds up before the optimiser moves. */
  batch: z.number().int().min(1).max(4096),
  accumulate: z.number().int().min(1).max(4096),
  /** AdamW's rate and decay; the betas are 0.9 and 0.999, as everywhere. */
  lr: positive.max(1),
  weightDecay: z.number().min(0).max(10),
  /** After `warmup` steps of linear rise, "constant", or down a cosine to three hundredths. */
  schedule: z.enum(["constant", "cosine"]),
  warmup: z.number().int().min(0),
  /** Decay of the moving average that is kept as the result; 0: the last weights are. */
  ema: z.number().min(0).lt(1),
  /** Largest joint norm of the gradients, and whose are clipped: the original clips the ControlNet's alone. */
  maxGradNorm: positive,
  clip: z.enum(["all", "controlnet"]),
  /** "stratified": one in each of as many strata as the batch, leaning to noise. */
  timesteps: z.enum(["uniform", "stratified"]),
  /**
   * Share of samples that are what one sampling step starts from: the last timestep, and noise's mean, zero, in noise's place. For schedules that
   * end in pure noise, which says nothing about the picture.
   */
  noiseless: share,
  /** Share of the values of a residual block that are left out, before its second convolution. */
  dropout: z.number().min(0).lt(1),
  /** Gamma of the min-SNR weighting (Hang et al. 2023); 0: every timestep counts the same. Leaves pure noise untrained where its SNR is zero. */
  minSnr: z.number().min(0),
  /** Noise of a sample and channel as a whole, on top; 0.1 is usual, 0 none. */
  noiseOffset: share,
  /** Share of samples whose appearance is left out, so that guidance knows the other branch. The original never does. */
  dropAppearance: share,
  /** What a place away from the mesh counts in the loss, against 1 near it (of heads that paint from drafts: away from the face); the original's 1. */
  background: share,
  /** One sample at a time, its activations computed again on the way back: slower, in far less memory. */
  checkpointing: z.boolean(),
});
export type Recipe = z.infer<typeof recipeSchema>;
export type RecipeOptions = Partial<Recipe> & {
  /** "reference": as the original trains, whatever the preset. */
  recipe?: "preset" | "reference";
};

/** The original's `train_body.py` and `train_head.py`. */
export const referenceRecipe: Recipe = {
  batch: 4,
  accumulate: 1,
  lr: 1e-5,
  weightDecay: 1e-2,
  schedule: "constant",
  warmup: 0,
  ema: 0,
  maxGradNorm: 1,
  clip: "controlnet",
  timesteps: "uniform",
  noiseless: 0,
  dropout: 0,
  minSnr: 0,
  noiseOffset: 0,
  dropAppearance: 0,
  background: 1,
  checkpointing: false,
};

/**
 * A preset's recipe with what was asked for in its place.
 * @throws {AnchorError} `OPTION` for a value out of its range
 */
export function chooseRecipe(preset: Recipe, { recipe = "preset", ...own }: RecipeOptions): Recipe {
  if (recipe !== "preset" && recipe !== "reference")
    throw new AnchorError("OPTION", `recipe: expected preset or reference, got "${String(recipe)}"`, { misuse: true });
  // Checkpointing changes what a step costs, never what it gives.
  const start = recipe === "reference" ? { ...referenceRecipe, checkpointing: preset.checkpointing } : preset;
  const asked = Object.fromEntries(Object.entries(own).filter(([, v]) => v !== undefined));
  const parsed = recipeSchema.safeParse({ ...start, ...asked });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const name = issue.path.join(".");
  throw new AnchorError(
    "OPTION",
    `${name}: ${issue.message.toLowerCase()}, got ${JSON.stringify((own as Record<string, unknown>)[name])}`,
    {
      misuse: true,
    },
  );
}

/** The recipe of an avatar's training: a rate that was not asked for is lower where weights start from a base. */
export const recipeOf = (t: Training, fromBase: boolean, asked: RecipeOptions, rank: number | null = null): Recipe => {
  const lr = rank !== null ? t.adapterLr : fromBase ? t.tuningLr : t.recipe.lr;
  return chooseRecipe({ ...t.recipe, lr }, ownKeys(asked));
};

const ownKeys = (o: RecipeOptions): RecipeOptions =>
  Object.fromEntries(["recipe", ...Object.keys(recipeSchema.shape)].flatMap((k) => (k in o ? [[k, o[k as keyof RecipeOptions]]] : [])));

/**
 * The factor of the rate at a step, 0..1.
 * @param step counts from 0
 * @param total steps in all; null while that is not known
 */
export function rateAt(r: Pick<Recipe, "schedule" | "warmup">, step: number, total: number | null): number {
  const rise = r.warmup > 0 ? Math.min(1, (step + 1) / r.warmup) : 1;
  if (r.schedule === "constant" || total === null) return rise;
  const start = Math.min(r.warmup, 0.03 * total); // a short run is not all warm-up
  return rise * fall(Math.max(0, (step - start) / Math.max(1, total - start)));
}
const fall = cosine(0, 0.03);
