import { describe, expect, test } from "vitest";
import { ambientOcclusion } from "./occlusion.ts";

const camera = { focal: 500, width: 60, height: 60 };
/** 1/z by pixel. */
const depths = (z: (x: number, y: number) => number): Float32Array =>
  Float32Array.from({ length: 3600 }, (_, p) => 1 / z(p % 60, Math.floor(p / 60)));
const middle = 30 * 60 + 30;

describe("ambient occlusion", () => {
  test("a plane is free, sloped or not, and so is a ridge", () => {
    for (const z of [() => 5, (x: number) => 5 + 0.003 * x, (x: number) => 5 + 0.003 * Math.abs(x - 30)])
      expect(ambientOcclusion(depths(z), camera, 0.03)[middle]).toBeLessThan(0.01);
  });
  test("the ground of a groove is shut in across it, not along; what lies far before counts no more than what lies near", () => {
    const groove = (depth: number) =>
      ambientOcclusion(
        depths((x) => (Math.abs(x - 30) < 1.5 ? 5 + depth : 5)),
        camera,
        0.03,
      )[middle];
    expect(groove(0.03)).toBeGreaterThan(0.3);
    expect(groove(0.03)).toBeLessThan(0.6);
    expect(groove(0.01)).toBeLessThan(0.5 * groove(0.03));
    expect(groove(0.3)).toBeCloseTo(groove(0.03), 2);
  });
  test("beside a step the lower side is half shut in, the higher one free; nothing seen stays 0", () => {
    const step = ambientOcclusion(
      depths((x) => (x < 30 ? 5 : x < 50 ? 5.05 : Infinity)),
      camera,
      0.03,
    );
    expect(step[30 * 60 + 29]).toBeLessThan(0.01);
    expect(step[middle]).toBeGreaterThan(0.1);
    expect(step[30 * 60 + 55]).toBe(0);
  });
});
