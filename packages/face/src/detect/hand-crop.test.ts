import { describe, expect, it } from "vitest";
import { cutHand, distinctHands, handCrop, placeIn } from "./hand-crop.ts";

/** A hand held up, its wrist at (0, 0) and its fingers 60 to 100 pixels above, then turned (clockwise, rad) and moved. */
function hand(turn: number, x = 0, y = 0): [number, number][] {
  const upright: [number, number][] = [[0, 0]];
  for (let k = 1; k <= 4; k++) upright.push([20 + 8 * k, -15 * k]); // thumb
  for (const [side, length] of [
    [15, 90],
    [0, 100],
    [-15, 90],
    [-30, 70],
  ])
    for (const part of [0.5, 0.7, 0.85, 1]) upright.push([side, -length * part]);
  const [c, s] = [Math.cos(turn), Math.sin(turn)];
  return upright.map(([u, v]) => [x + c * u - s * v, y + s * u + c * v]);
}

describe("a hand's crop", () => {
  it("stands upright around a hand that does, with room for its fingers", () => {
    const crop = handCrop(hand(0, 200, 300));
    expect(crop.right[0]).toBeGreaterThan(0);
    expect(crop.right[1]).toBeCloseTo(0, 6);
    expect(crop.down[0]).toBeCloseTo(0, 6);
    expect(crop.down[1]).toBeCloseTo(crop.right[0], 6);
    // Knuckles and the joints after them reach from 0 to 70 pixels above the wrist, thumb to little finger 74 across.
    const half = 74;
    expect(crop.right[0]).toBeCloseTo(half, 6);
    expect(crop.center[0]).toBeCloseTo(200 + (44 - 30) / 2, 6);
    expect(crop.center[1]).toBeCloseTo(300 - 35 - 7, 6);
    for (const [x, y] of hand(0, 200, 300)) {
      expect(Math.abs(x - crop.center[0])).toBeLessThan(half);
      expect(Math.abs(y - crop.center[1])).toBeLessThan(half);
    }
  });

  it.each([0.5, 1.9, -2.6, Math.PI])("turns with the hand (%d rad): the same places of it stay at the same places of the crop", (turn) => {
    const [still, turned] = [handCrop(hand(0)), handCrop(hand(turn, 40, -70))];
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    for (const [u, v] of [
      [0, 0],
      [0.3, 0.9],
      [1, 0.2],
    ]) {
      const [x, y] = placeIn(still, u, v);
      const [p, q] = placeIn(turned, u, v);
      expect(p).toBeCloseTo(40 + c * x - s * y, 4);
      expect(q).toBeCloseTo(-70 + s * x + c * y, 4);
    }
  });

  it("is cut out of the picture as it lies, black beside it", () => {
    const [width, height] = [64, 48];
    const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
      const p = Math.floor(i / 3);
      return i % 3 === 0 ? 4 * (p % width) : i % 3 === 1 ? 5 * Math.floor(p / width) : 255;
    });
    // Turned by a quarter: right of the crop is down in the picture.
    const crop = { center: [32, 24], right: [0, 8], down: [-8, 0] } as const;
    const side = 16;
    const cut = cutHand({ width, height, data }, crop, side);
    const at = (i: number, j: number) => [0, 1, 2].map((c) => 255 * cut[3 * (j * side + i) + c]);
    const [r, g, b] = at(3, 10);
    expect(r).toBeCloseTo(4 * (32 - (10 - 7.5) - 0.5), 3);
    expect(g).toBeCloseTo(5 * (24 + (3 - 7.5) - 0.5), 3);
    expect(b).toBeCloseTo(255, 3);
    const beside = cutHand({ width, height, data }, { center: [-20, 24], right: [8, 0], down: [0, 8] }, side);
    expect(beside.every((x) => x === 0)).toBe(true);
  });

  it("is a square somewhere, and no NaN, where all points are one", () => {
    const crop = handCrop(Array.from({ length: 21 }, () => [5, 6] as const));
    expect(crop.center.every((x) => Number.isFinite(x))).toBe(true);
    expect([...crop.right, ...crop.down].every((x) => x === 0 || Number.isFinite(x))).toBe(true);
  });
});

describe("hands found twice", () => {
  const found = (score: number, points: [number, number][]) => ({ score, keypoints: points.map(([x, y]) => [x, y, 0] as const) });

  it("are one, the surer", () => {
    const [right, left] = [hand(0, 100, 200), hand(0.4, 260, 210)];
    const hands = [found(0.5, hand(0.1, 104, 197)), found(0.6, left), found(0.9, right)];
    expect(distinctHands(hands).map((h) => h.score)).toEqual([0.9, 0.6]);
  });

  it("are two where one lies over the other, turned, or where they cross", () => {
    expect(distinctHands([found(0.9, hand(0)), found(0.8, hand(Math.PI / 2))])).toHaveLength(2);
    expect(distinctHands([found(0.9, hand(0)), found(0.8, hand(0, 50))])).toHaveLength(2);
  });

  it("no points: neither one nor two", () => {
    const none = { score: 0.4, keypoints: [] };
    expect(distinctHands([none, found(0.9, hand(0)), none])).toHaveLength(3);
  });
});
