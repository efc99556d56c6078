import { describe, expect, it } from "vitest";
import { applyAffine, invertAffine } from "@make-your-anchor/media";
import { layeredBackground } from "./layers.ts";
import { reachOf, toShares, viewOf, type View } from "./view.ts";
import { cameraViews } from "./camera-move.ts";

const size = 64;
const n = size * size;
const count = 20;

/** A wall with something to see everywhere, at any place. */
const wall = (x: number, y: number, c: number) =>
  120 + 40 * Math.sin(0.5 * x + c) + 35 * Math.sin(0.45 * y - 0.3 * x) + 25 * Math.sin(0.9 * y + 0.2 * c);
/** A caption at the left edge that stays where it is on the screen. */
const strip = 7;
const caption = (y: number) => (Math.floor(y / 6) % 2 === 0 ? 250 : 5);

/** The middle of the picture, where a body moves a little. */
function condition(i: number): Uint8Array {
  const out = new Uint8Array(3 * n);
  for (let y = 24; y < 60; y++) for (let x = 0; x < 16; x++) out[y * size + 26 + (i % 3) + x] = 90;
  return out;
}
/** A camera that pans and comes nearer. */
const moved = Array.from({ length: count }, (_, i): View => {
  const t = i / (count - 1) - 0.5;
  const zoom = 1 + 0.03 * t;
  return [zoom, 0, 4 * t + (31.5 - 31.5 * zoom), 0, zoom, 2 * t * t + (31.5 - 31.5 * zoom)];
});
function frame(view: View, i: number, captioned: boolean, wide = strip): Uint8Array {
  const back = invertAffine(view);
  const cond = condition(i);
  const out = new Uint8Array(3 * n);
  for (let p = 0; p < n; p++) {
    const [x, y] = [p % size, Math.floor(p / size)];
    for (let c = 0; c < 3; c++) {
      out[c * n + p] = cond[p] > 0 ? 30 * c : captioned && x < wide ? caption(y) : Math.round(wall(...applyAffine(back, x, y), c));
    }
  }
  return out;
}
const conditions = Array.from({ length: count }, (_, i) => condition(i));
const filmed = (frames: readonly Uint8Array[]) => ({
  count,
  size,
  frame: (i: number) => Promise.resolve(frames[i]),
  condition: (i: number) => Promise.resolve(conditions[i]),
});
/** The largest difference of a corner's place between two views; one of the clip's may be in front of all. */
const apart = (a: View, b: View) => {
  const e = size - 1;
  const corners = [0, e].flatMap((x) => [0, e].map((y) => [x, y] as const));
  return Math.max(...corners.map(([x, y]) => Math.hypot(...applyAffine(a, x, y).map((v, k) => v - applyAffine(b, x, y)[k]))));
};

describe("a camera that moves", () => {
  it.each([
    ["alone", false],
    ["behind a caption that does not move with it", true],
  ])("is followed, %s", async (_, captioned) => {
    const frames = moved.map((v, i) => frame(v, i, captioned));
    const views = (await cameraViews(filmed(frames)))!;
    // Which place is called unmoved is a matter of taste: that of one frame is compared.
    const home = (all: readonly View[], i: number): View => {
      const back = invertAffine(all[10]);
      const [a, b, , c, d] = all[i];
      const [x, y] = applyAffine(all[i], ...applyAffine(back, 0, 0));
      return [a * back[0] + b * back[3], a * back[1] + b * back[4], x, c * back[0] + d * back[3], c * back[1] + d * back[4], y];
    };
    for (let i = 0; i < count; i++) expect(apart(home(views, i), home(moved, i)), `frame ${i}`).toBeLessThan(0.4);
    expect(Math.max(...views.map((v) => reachOf(v, size)))).toBeGreaterThan(1.5);

    const { background } = await layeredBackground(frames, conditions, views, size);
    const off = (made: Uint8Array, i: number) => {
      let [sum, pixels] = [0, 0];
      for (let p = 0; p < n; p++) {
        if (conditions.some((c) => c[p] > 0) || (captioned && Math.abs((p % size) - strip) < 3)) continue;
        for (let c = 0; c < 3; c++) sum += Math.abs(made[c * n + p] - frames[i][c * n + p]);
        pixels += 3;
      }
      return sum / pixels;
    };
    for (const i of [0, 7, count - 1]) {
      expect(off(background.planes(views[i]), i), `frame ${i}`).toBeLessThan(4);
      expect(off(background.planes(), i) > 4 || i === 7).toBe(true);
    }
    const share = (from: number, to: number) => {
      const columns = Array.from({ length: n }, (_, p) => p).filter((p) => p % size >= from && p % size < to);
      return columns.filter((p) => background.screen?.fixed[p] === 1).length / columns.length;
    };
    expect(share(0, strip - 1)).toBeGreaterThan(captioned ? 0.9 : -1);
    expect(share(strip + 4, size)).toBeLessThan(0.05);
  });

  it("that stands still is known for one, whoever moves before it", async () => {
    const frames = moved.map((_, i) => frame([1, 0, 0, 0, 1, 0], i, false));
    expect(await cameraViews(filmed(frames))).toBeNull();
    expect(await cameraViews({ ...filmed(frames), count: 1 })).toBeNull();
  });

  it("is not taken for a still one where it hardly moves behind a wide caption", async () => {
    const slow = moved.map((v): View => v.map((x, k) => 0.12 * x + (k % 4 === 0 ? 0.88 : 0)) as unknown as View);
    const views = await cameraViews(filmed(slow.map((v, i) => frame(v, i, true, 16))));
    const reach = (all: readonly View[]) => Math.max(...all.map((v) => reachOf(v, size)));
    expect(reach(views!)).toBeCloseTo(reach(slow), 1);
  });

  it("is kept in shares of the picture's side, for pictures of any size", () => {
    const views = Float32Array.from(moved.flatMap((v) => [...toShares(v, size)]));
    moved.forEach((v, i) => expect(apart(viewOf({ views }, i, size)!, v)).toBeLessThan(1e-4));
    // Twice the size: a pixel's middle is at twice the place.
    const [x, y] = applyAffine(viewOf({ views }, 3, 2 * size)!, 2 * 20 + 0.5, 2 * 30 + 0.5);
    const [u, v] = applyAffine(moved[3], 20, 30);
    expect([x, y]).toEqual([expect.closeTo(2 * u + 0.5, 3), expect.closeTo(2 * v + 0.5, 3)]);
    expect(viewOf({}, 0, size)).toBeUndefined();
  });

  it("is looked for until that is broken off", async () => {
    const abort = new AbortController();
    const frames = moved.map((v, i) => frame(v, i, false));
    const onProgress = () => abort.abort();
    await expect(cameraViews(filmed(frames), { signal: abort.signal, onProgress })).rejects.toThrow();
  });
});
