/** The options of a training's recipe. */
import type { Command } from "commander";
import type { RecipeOptions } from "@make-your-anchor/anchor";

const flags: readonly (readonly [string, string, keyof RecipeOptions])[] = [
  ["--recipe <name>", '"preset" (default), or "reference": as the original trains', "recipe"],
  ["--batch <n>", "samples of a batch", "batch"],
  ["--accumulate <n>", "batches whose gradients a step adds up", "accumulate"],
  ["--lr <rate>", "AdamW's rate", "lr"],
  ["--weight-decay <d>", "AdamW's decay", "weightDecay"],
  ["--schedule <name>", '"constant" or "cosine"', "schedule"],
  ["--warmup <steps>", "steps of linear rise", "warmup"],
  ["--ema <decay>", "of the moving average that is kept; 0: the last weights are", "ema"],
  ["--max-grad-norm <n>", "largest joint norm of the gradients", "maxGradNorm"],
  ["--clip <whose>", 'whose gradients are clipped: "all", or "controlnet" as in the original', "clip"],
  ["--timesteps <how>", '"uniform", or "stratified", leaning to noise', "timesteps"],
  ["--noiseless <share>", "of samples, trained as one sampling step begins: at the last timestep, from zero", "noiseless"],
  ["--dropout <share>", "of a residual block's values, left out", "dropout"],
  ["--min-snr <gamma>", "min-SNR weighting; 5 is usual, 0 none", "minSnr"],
  ["--noise-offset <share>", "0.1 is usual, 0 none", "noiseOffset"],
  ["--drop-appearance <share>", "of samples, so that guidance knows its other branch", "dropAppearance"],
  ["--background <share>", "what a place away from the mesh counts in the loss, against 1 near it", "background"],
  ["--checkpointing", "one sample at a time, activations computed twice: slower, in far less memory", "checkpointing"],
];
const words = new Set<string>(["recipe", "schedule", "clip", "timesteps"]);

export type RecipeFlags = { [K in keyof RecipeOptions]?: RecipeOptions[K] };

export function addRecipeFlags(command: Command): Command {
  for (const [flag, what, key] of flags) {
    if (flag.includes("<") && !words.has(key)) command.option(flag, what, Number);
    else command.option(flag, what);
  }
  return command;
}

/** Those that were given. */
export const recipeFrom = (o: RecipeFlags): RecipeOptions =>
  Object.fromEntries(flags.flatMap(([, , key]) => (o[key] === undefined ? [] : [[key, o[key]]])));
