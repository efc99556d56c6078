import { expect, test } from "vitest";
import { Skipped } from "./skipped.ts";

const read = async (place: number) => {
  if (place % 10 === 3) throw new Error(`frame ${place}: broken`);
  return place;
};
const make = async (places: readonly number[]) => ({ made: await Promise.all(places.map(read)) });

test("without leave the first bad sample stops the training", async () => {
  const skipped = new Skipped(false);
  await expect(skipped.readable([1, 2, 3], read)).rejects.toThrow("frame 3: broken");
  await expect(skipped.with([2, 3], 20, make, () => {})).rejects.toThrow("frame 3: broken");
});

test("with leave it is left out, counted once, and the next takes its place", async () => {
  const skipped = new Skipped(true);
  expect(await skipped.readable([1, 2, 3, 4, 5, 6], read)).toEqual([1, 2, 4, 5, 6]);
  const under = new Skipped(true);
  let released = 0;
  expect(await under.with([2, 3, 13], 20, make, () => released++)).toEqual({ made: [2, 4, 14] });
  expect(released).toBe(1); // the good one that was tried alone
  expect(await under.with([3, 5], 20, make, () => {})).toEqual({ made: [4, 5] });
  expect(under.all).toEqual(["frame 3: broken", "frame 13: broken"]);
});

test("too many are a broken data set", async () => {
  const skipped = new Skipped(true);
  const all = async () => Promise.reject(new Error("gone"));
  await expect(skipped.readable([0, 1, 2, 3, 4, 5, 6, 7], all)).rejects.toThrow(
    /3 of 8 pictures cannot be used, more than --skip-bad leaves out; the last one: gone/,
  );
});

test("an interruption is none of it", async () => {
  const skipped = new Skipped(true);
  await expect(
    skipped.readable([0, 1], async () => {
      throw new DOMException("stopped", "AbortError");
    }),
  ).rejects.toThrow("stopped");
});
