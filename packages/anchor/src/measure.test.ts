import { expect, test } from "vitest";
import { NearestFrames, PixelStatistics, score, Scoring } from "./measure.ts";

const size = 16;
const n = size * size;
const flat = (...rgb: number[]) => Uint8Array.from({ length: 3 * n }, (_, i) => rgb[Math.floor(i / n) % rgb.length]);
const noise = (seed: number) => Uint8Array.from({ length: 3 * n }, (_, i) => (Math.imul(i + 1, 2654435761 + 2 * seed) >>> 16) & 255);
/** 1 in the upper half. */
const upper = Uint8Array.from({ length: n }, (_, i) => (i < n / 2 ? 1 : 0));

test("scores of what can be counted by hand", () => {
  const same = score([noise(1)], [noise(1)], size, null);
  expect(same).toEqual({ psnr: 100, ssim: expect.closeTo(1, 12), sharpness: 1 });
  const { psnr, ssim } = score([flat(100)], [flat(110)], size, null);
  expect(psnr).toBeCloseTo(20 * Math.log10(255 / 10), 10);
  const [a, b, c1] = [100 / 255, 110 / 255, 0.01 ** 2];
  expect(ssim).toBeCloseTo((2 * a * b + c1) / (a * a + b * b + c1), 10);
  expect(score([flat(100)], [noise(1)], size, null).sharpness).toBe(0);
});

test("regions are scored apart, frames one by one", () => {
  const truth = [noise(1), noise(2)];
  const made = truth.map((t) => t.map((v, i) => (i % n < n / 2 ? v : 255 - v)));
  const both = new Scoring(size, [null, upper]);
  truth.forEach((t, i) => both.add(made[i], t));
  const [whole, half] = both.scores();
  expect(half.psnr).toBe(100);
  expect(whole.psnr).toBeLessThan(20);
  expect([whole, half]).toEqual([score(made, truth, size, null), score(made, truth, size, upper)]);
});

test("what moves, and the mean frame", () => {
  const s = new PixelStatistics(size);
  for (const v of [100, 140]) s.add(flat(50).map((x, i) => (i % n < n / 2 ? v : x)));
  expect(s.moving()).toEqual(upper);
  expect(s.mean()).toEqual(flat(50).map((x, i) => (i % n < n / 2 ? 120 : x)));
});

test("of each target the number of the nearest frame; of equals the first", () => {
  const search = new NearestFrames([flat(10), flat(200), flat(90)]);
  expect(search.best).toEqual([-1, -1, -1]);
  [0, 100, 190, 100].forEach((v, k) => search.add(flat(v), 7 + k));
  expect(search.best).toEqual([7, 9, 8]);
});
