import { totalmem } from "node:os";
import { expect, test } from "vitest";
import { memoryNeeded, requireMemory } from "./limits.ts";

// UNet and ControlNet of Stable Diffusion 1.5.
const full = 859_520_964 + 361_279_120;

test("full tuning of the full-size model takes about 21 GiB, an adapter a third", () => {
  expect(memoryNeeded({ trained: full, frozen: 0 })).toBeCloseTo(20.7, 1);
  expect(memoryNeeded({ trained: 0.02 * full, frozen: full })).toBeLessThan(8);
});

test("what does not fit is refused with figures and a way out, on the CPU alone", () => {
  const trained = Math.ceil(totalmem() / 10);
  expect(() => requireMemory({ trained, frozen: 0 }, "cpu")).toThrow(/needs about [\d.]+ GiB.*this machine has [\d.]+: .*--adapter lora/);
  expect(() => requireMemory({ trained, frozen: 0 }, "cuda:0")).not.toThrow();
  expect(() => requireMemory({ trained: 1000, frozen: 1000 }, "cpu")).not.toThrow();
});
