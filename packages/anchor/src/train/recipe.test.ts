import { describe, expect, test } from "vitest";
import { presets } from "../presets.ts";
import { chooseRecipe, rateAt, recipeOf, referenceRecipe } from "./recipe.ts";

describe("recipes", () => {
  test("what was asked for stands in the place of the preset's; a base is tuned at a lower rate", () => {
    const { training } = presets.mini;
    expect(recipeOf(training, false, {}).lr).toBe(training.recipe.lr);
    expect(recipeOf(training, true, {}).lr).toBe(training.tuningLr);
    expect(recipeOf(training, true, { lr: 1e-4, batch: undefined })).toEqual({ ...training.recipe, lr: 1e-4 });
  });
  test("the reference is the original's, at full size one sample at a time", () => {
    expect(chooseRecipe(presets.mini.training.recipe, { recipe: "reference" })).toEqual(referenceRecipe);
    expect(presets.sd15.training.recipe).toEqual({ ...referenceRecipe, checkpointing: true });
    expect(chooseRecipe(presets.mini.training.recipe, { recipe: "reference", dropAppearance: 0.1 }).dropAppearance).toBe(0.1);
  });
  test.each([
    [{ lr: 0 }, /^lr: .*got 0$/],
    [{ batch: 1.5 }, /^batch: .*got 1\.5$/],
    [{ ema: 1 }, /^ema: .*got 1$/],
    [{ schedule: "linear" as never }, /^schedule: .*got "linear"$/],
    [{ noiseless: 1.1 }, /^noiseless: .*got 1\.1$/],
    [{ dropout: 1 }, /^dropout: .*got 1$/],
    [{ dropAppearance: 2 }, /^dropAppearance: .*got 2$/],
    [{ recipe: "mine" as never }, /^recipe: expected preset or reference, got "mine"$/],
  ])("%j is refused in a sentence", (asked, message) => {
    expect(() => chooseRecipe(presets.mini.training.recipe, asked)).toThrow(message);
  });
  test("rates: constant, warm-up, cosine", () => {
    expect([0, 5, 99].map((s) => rateAt({ schedule: "constant", warmup: 0 }, s, 100))).toEqual([1, 1, 1]);
    expect([0, 4, 9, 50].map((s) => rateAt({ schedule: "constant", warmup: 10 }, s, null))).toEqual([0.1, 0.5, 1, 1]);
    const cosine = (s: number) => rateAt({ schedule: "cosine", warmup: 10 }, s, 1000);
    expect(cosine(505)).toBeCloseTo(0.03 + 0.97 / 2, 2);
    expect(cosine(999)).toBeCloseTo(0.03, 3);
    for (let s = 11; s < 1000; s += 50) expect(cosine(s + 1)).toBeLessThan(cosine(s));
  });
});
