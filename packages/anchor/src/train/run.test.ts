import { afterEach, beforeEach, expect, test } from "vitest";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Avatar } from "../avatar.ts";
import { checkCount } from "./limits.ts";
import { referenceRecipe } from "./recipe.ts";
import { openRun } from "./run.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "run-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const open = (seed?: number, fresh = false) => {
  const avatar = { path: (...parts: string[]) => join(folder, ...parts), info: { preset: "mini" } } as unknown as Avatar;
  return openRun(avatar, "body", { fresh, steps: 4, from: "base", recipe: referenceRecipe, precision: "float32", rank: null, seed }, 5);
};

test("a run has the seed that was asked for, or the usual one, and goes on with no other", () => {
  const begun = open(7);
  expect(begun.config.seed).toBe(7);
  expect(open().folder).toBe(begun.folder); // goes on, with its own
  expect(open(7).folder).toBe(begun.folder);
  expect(() => open(8)).toThrow(/begun with seed 7, not 8: go on with the same settings, or start over with --fresh/);
  expect(open(undefined, true).config.seed).toBe(5);
});

test("a seed that is none is refused with its range", () => {
  for (const seed of [-1, 0.5, Number.NaN]) expect(() => checkCount("seed", seed, 9)).toThrow(/^seed: expected a whole number from 0, got/);
  expect(() => checkCount("seed", 10, 9)).toThrow("seed: expected a whole number from 0 to 9, got 10");
  expect(() => checkCount("seed", 9, 9)).not.toThrow();
  expect(() => checkCount("seed", undefined, 9)).not.toThrow();
});
