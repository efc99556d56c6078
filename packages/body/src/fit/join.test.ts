import { describe, expect, it } from "vitest";
import { emptyMotion, type Motion } from "../motion/motion.ts";
import { fitParts, joinMotions } from "./join.ts";

describe("the parts of a long clip", () => {
  it("are one where it is short", () => {
    expect(fitParts(1800, 1800, 30)).toEqual([{ from: 0, to: 1800 }]);
    expect(fitParts(1, 1800, 30)).toEqual([{ from: 0, to: 1 }]);
  });
  it.each([1801, 1900, 3570, 3571, 5000, 108_000])("cover %i frames in equal lengths, and overlap", (frames) => {
    const parts = fitParts(frames, 1800, 30);
    expect(parts[0].from).toBe(0);
    expect(parts.at(-1)!.to).toBe(frames);
    for (const [k, { from, to }] of parts.entries()) {
      expect(to - from).toBe(parts[0].to);
      expect(to - from).toBeLessThanOrEqual(1800);
      if (k === 0) continue;
      expect(parts[k - 1].to - from).toBeGreaterThanOrEqual(30);
      expect(parts[k - 1].to - from).toBeLessThan(30 + parts.length);
    }
    expect(parts.length).toBe(Math.ceil((frames - 30) / 1770));
  });
});

describe("joined motions", () => {
  const camera = { width: 512, height: 512, focal: 5000, cx: 256, cy: 256 };
  /** Of which every value is the one, and which its camera sees so far away. */
  const still = (frames: number, value: number, away: number): Motion => {
    const m = emptyMotion(frames, 25, 2, 3);
    for (const a of [m.bodyPose, m.expression, m.transl]) a.fill(value);
    return { ...m, camera: { ...camera, transl: [0, 0, away] } };
  };
  const bodyOf = (m: Motion) => Array.from({ length: m.frames }, (_, f) => m.bodyPose[63 * f + 5]);
  const depths = (m: Motion) => Array.from({ length: m.frames }, (_, f) => m.transl[3 * f + 2] + m.camera!.transl[2]);

  it("go over from one to the next where they overlap, wherever each part's camera stood", () => {
    const joined = joinMotions(
      [
        { from: 0, to: 4 },
        { from: 2, to: 6 },
      ],
      [still(4, 0, 9), still(4, 1, 10)],
    );
    expect(joined.frames).toBe(6);
    expect(bodyOf(joined)).toEqual([0, 0, 0.25, 0.75, 1, 1]);
    [9, 9, 9.5, 10.5, 11, 11].forEach((z, f) => expect(depths(joined)[f]).toBeCloseTo(z, 5));
    expect(joined.camera!.transl[2]).toBeCloseTo(10, 5); // the mean: the body stays about the origin
    expect(joined.expression).toHaveLength(12);
    expect(joined.betas).toHaveLength(3);
  });
  it("bridge parts in which nobody is seen", () => {
    const parts = [0, 3, 6, 9].map((from) => ({ from, to: from + 4 }));
    const joined = joinMotions(parts, [undefined, still(4, 1, 9), undefined, still(4, 4, 9)]);
    expect(bodyOf(joined)).toEqual([1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4]);
    expect(bodyOf(joinMotions(parts.slice(0, 2), [still(4, 2, 9), undefined]))).toEqual([2, 2, 2, 2, 2, 2, 2]);
  });
});
