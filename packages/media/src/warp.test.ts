import { describe, expect, it } from "vitest";
import {
  applyAffine,
  dilateBox,
  erodeBox,
  gaussianBlur,
  invertAffine,
  warpAffine,
  warpPlanes,
  warpPlanesCubic,
  type Affine,
  type RgbImage,
} from "./index.ts";

/** A repeatable picture. */
const picture = (width: number, height: number): RgbImage => ({
  width,
  height,
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919 + (i >> 3) * 104729) % 256),
});
const turn: Affine = [0.8, -0.3, 5.25, 0.3, 0.8, -2.5];

describe("affine warps", () => {
  it("there and back is the identity", () => {
    const back = invertAffine(turn);
    for (const [x, y] of [
      [0, 0],
      [10, -4],
      [3.5, 7.25],
    ]) {
      const [u, v] = applyAffine(back, ...applyAffine(turn, x, y));
      expect(u).toBeCloseTo(x, 10);
      expect(v).toBeCloseTo(y, 10);
    }
  });
  it("cubic ones leave what is not moved, move by whole pixels exactly, and know nothing outside", () => {
    const area = { width: 7, height: 5 };
    const planes = Float32Array.from({ length: 70 }, (_, i) => (i * 7919) % 251);
    expect(warpPlanesCubic(planes, area, [1, 0, 0, 0, 1, 0], 7, 5)).toEqual(planes);
    const moved = warpPlanesCubic(planes, area, [1, 0, 2, 0, 1, 1], 7, 5);
    for (let i = 0; i < 70; i++) {
      const [c, y, x] = [Math.floor(i / 35), Math.floor(i / 7) % 5, i % 7];
      expect(moved[i]).toBeCloseTo(x >= 2 && y >= 1 ? planes[c * 35 + (y - 1) * 7 + x - 2] : 0, 3);
    }
    expect(warpPlanesCubic(planes, area, [1, 0, 100, 0, 1, 0], 7, 5).every((v) => v === 0)).toBe(true);
  });
  it("cubic ones lose a quarter of what bilinear ones do, there and back", () => {
    const area = { width: 40, height: 40 };
    const wave = Float32Array.from({ length: 1600 }, (_, i) => Math.sin(0.9 * (i % 40)) + Math.cos(0.8 * Math.floor(i / 40)));
    const lost = (warp: typeof warpPlanes) => {
      const back = warp(warp(wave, area, turn, 60, 60), { width: 60, height: 60 }, invertAffine(turn), 40, 40);
      let sum = 0;
      for (let y = 12; y < 28; y++) for (let x = 12; x < 28; x++) sum += (back[y * 40 + x] - wave[y * 40 + x]) ** 2;
      return sum;
    };
    expect(lost(warpPlanesCubic)).toBeLessThan(lost(warpPlanes) / 4);
  });
  it("the identity leaves a picture as it is; a shift by whole pixels moves it, black behind it", () => {
    const image = picture(9, 6);
    expect(warpAffine(image, [1, 0, 0, 0, 1, 0], 9, 6).data).toEqual(image.data);
    const moved = warpAffine(image, [1, 0, 2, 0, 1, 1], 9, 6);
    for (let y = 0; y < 6; y++)
      for (let x = 0; x < 9; x++) expect(moved.data[(y * 9 + x) * 3]).toBe(x >= 2 && y >= 1 ? image.data[((y - 1) * 9 + x - 2) * 3] : 0);
  });
  it("agrees with bilinear sampling, in bytes and in floats", () => {
    const image = picture(16, 12);
    const planes = Float32Array.from({ length: 16 * 12 }, (_, i) => image.data[3 * i]);
    const [bytes, floats] = [warpAffine(image, turn, 14, 14), warpPlanes(planes, image, turn, 14, 14)];
    const back = invertAffine(turn);
    const at = (x: number, y: number) => (x < 0 || y < 0 || x >= 16 || y >= 12 ? 0 : planes[y * 16 + x]);
    for (let y = 0; y < 14; y++) {
      for (let x = 0; x < 14; x++) {
        const [sx, sy] = applyAffine(back, x, y);
        const [ix, iy] = [Math.floor(sx), Math.floor(sy)];
        const [fx, fy] = [sx - ix, sy - iy];
        const exact = (at(ix, iy) * (1 - fx) + at(ix + 1, iy) * fx) * (1 - fy) + (at(ix, iy + 1) * (1 - fx) + at(ix + 1, iy + 1) * fx) * fy;
        // Positions are kept to 1/32 of a pixel: off by at most 1/64 in each direction, of a contrast of 255.
        expect(Math.abs(floats[y * 14 + x] - exact)).toBeLessThan(9);
        expect(Math.abs(bytes.data[(y * 14 + x) * 3] - floats[y * 14 + x])).toBeLessThanOrEqual(0.51);
      }
    }
  });
});

describe("filters", () => {
  const size = { width: 13, height: 9 };
  const plane = Float32Array.from({ length: 13 * 9 }, (_, i) => (i * 31 + (i >> 2) * 17) % 101);
  const slow = (box: number, pick: (...v: number[]) => number) =>
    Float32Array.from(plane, (_, i) => {
      const [x, y] = [i % 13, Math.floor(i / 13)];
      const before = box >> 1;
      const values: number[] = [];
      for (let dy = -before; dy < box - before; dy++)
        for (let dx = -before; dx < box - before; dx++)
          if (x + dx >= 0 && x + dx < 13 && y + dy >= 0 && y + dy < 9) values.push(plane[(y + dy) * 13 + x + dx]);
      return pick(...values);
    });
  it("erosion and dilation pick the smallest and largest of a box, odd or even, to the border", () => {
    for (const box of [2, 3, 4, 5]) expect(erodeBox(plane, size, box)).toEqual(slow(box, Math.min));
    for (const box of [3, 5]) expect(dilateBox(plane, size, box)).toEqual(slow(box, Math.max));
  });
  it("a blur keeps a flat picture, and its borders mirror without the edge", () => {
    for (const v of gaussianBlur(new Float32Array(13 * 9).fill(7), size, 5, 1.1)) expect(v).toBeCloseTo(7, 5);
    const row = gaussianBlur(Float32Array.from([1, 2, 4]), { width: 3, height: 1 }, 3, 1);
    const [side, middle] = [Math.exp(-0.5), 1];
    const total = middle + 2 * side;
    expect(row[0]).toBeCloseTo((2 * side + 1 * middle + 2 * side) / total, 5);
    expect(row[2]).toBeCloseTo((2 * side + 4 * middle + 2 * side) / total, 5);
  });
});
