/** Which of what lies behind a clip's person moves with the camera, and what is fixed to the screen before it (a strip, a caption, a frame). */
import { setImmediate as breathe } from "node:timers/promises";
import { applyAffine } from "@make-your-anchor/media";
import { spread } from "../dataset.ts";
import { Background, BackgroundSums, meshAt, nearMesh, sample, trust } from "./background.ts";
import { reachOf, type View } from "./view.ts";

/** How far from the mesh nothing of the person is to be expected: shadows, misses of the fit. */
export const aside = 0.08;
/** A pixel is fixed to the screen where that explains it with less than this share of the error of the moving background. */
const fixedBelow = 0.5;
/** Squared differences count up to here, grey levels: what stood there for a while is no reason. */
const mostSquared = 50 ** 2;
/** Errors are compared over squares of so many pixels to each side, as a share of the picture's. */
const neighbours = 1 / 64;
/** It is built from at most so many frames, spread over the clip. */
export const most = 240;
/** Pictures between two looks at what else there is to do. */
const breath = 16;
/** No part of the picture beyond its edges is kept farther away than this share of the side. */
const widest = 0.15;

export interface Layered {
  background: Background;
  /** Share of the frames in which the background was seen at a pixel of the unmoved frame, about: `[size, size]`. */
  seen: Float32Array;
}

/**
 * The background of frames that a moving camera saw, and what is fixed to the screen before it.
 * @param pictures planes `[3, size, size]`, the conditions with them
 * @param views of each
 */
export async function layeredBackground(
  pictures: readonly Uint8Array[],
  conditions: readonly Uint8Array[],
  views: readonly View[],
  size: number,
  signal?: AbortSignal,
): Promise<Layered> {
  if (pictures.length > most) {
    const some = <T>(of: readonly T[]): T[] => spread(most, of.length).map((i) => of[i]);
    return layeredBackground(some(pictures), some(conditions), some(views), size, signal);
  }
  const n = size * size;
  const each = async (work: (picture: Uint8Array, i: number) => void) => {
    for (let i = 0; i < pictures.length; i++) {
      work(pictures[i], i);
      if (i % breath !== breath - 1) continue;
      signal?.throwIfAborted();
      await breathe();
    }
  };
  const margin = Math.ceil(Math.min(widest * size, Math.max(...views.map((v) => reachOf(v, size)))));
  const side = size + 2 * margin;
  const near = conditions.map((c) => nearMesh(c, size));
  const screenSums = new BackgroundSums(size);
  pictures.forEach((f, i) => screenSums.add(f, (p) => meshAt(conditions[i], n, p), near[i]));
  const still = screenSums.mean();

  const colour = new Float64Array(3);
  const build = async (fixed: Uint8Array | null): Promise<BackgroundSums> => {
    const sums = new BackgroundSums(side);
    await each((f, i) => {
      for (let q = 0; q < side * side; q++) {
        const [x, y] = applyAffine(views[i], (q % side) - margin, Math.floor(q / side) - margin);
        const [a, b] = [Math.round(x), Math.round(y)];
        if (a < 0 || b < 0 || a >= size || b >= size) continue;
        const p = b * size + a;
        if (meshAt(conditions[i], n, p)) continue;
        sample(f, size, x, y, colour);
        sums.put(q, fixed?.[p] === 1 ? trust.covered : near[i][p] ? trust.near : trust.away, colour[0], colour[1], colour[2]);
      }
    });
    return sums;
  };
  const away = conditions.map((c) => nearMesh(c, size, aside));
  /** Mean squared errors of the pixels, over the frames that show something there; −1 where none does. */
  const errors = async (made: (i: number) => Uint8Array): Promise<Float64Array> => {
    const [sum, count] = [new Float64Array(n), new Uint32Array(n)];
    await each((f, i) => {
      const m = made(i);
      for (let p = 0; p < n; p++) {
        if (away[i][p] === 1) continue;
        let d = 0;
        for (let c = 0; c < 3; c++) d += (m[c * n + p] - f[c * n + p]) ** 2 / 3;
        sum[p] += Math.min(d, mostSquared);
        count[p]++;
      }
    });
    return sum.map((v, p) => (count[p] > 0 ? v / count[p] : -1));
  };
  const ofStill = smoothed(await errors(() => still), size);
  let fixed: Uint8Array | null = null;
  let sums = await build(null);
  for (let round = 0; round < 2; round++) {
    const moving = new Background(size, sums.mean());
    const ofMoving = smoothed(await errors((i) => moving.planes(views[i])), size);
    fixed = Uint8Array.from(ofStill, (v, p) => (v >= 0 && v < fixedBelow * ofMoving[p] ? 1 : 0));
    sums = await build(fixed);
  }
  const any = fixed!.includes(1);
  const seen = Float32Array.from({ length: n }, (_, p) => {
    const q = (Math.floor(p / size) + margin) * side + (p % size) + margin;
    return sums.weight(q) / pictures.length;
  });
  return { background: new Background(size, sums.mean(), any ? { picture: still, fixed: fixed! } : undefined), seen };
}

/** Means over squares, of what is known there; −1 where a pixel itself is not. */
function smoothed(e: Float64Array, size: number): Float64Array {
  const r = Math.max(1, Math.round(neighbours * size));
  return e.map((own, p) => {
    if (own < 0) return -1;
    const [x, y] = [p % size, Math.floor(p / size)];
    let [sum, count] = [0, 0];
    for (let j = Math.max(0, y - r); j <= Math.min(size - 1, y + r); j++) {
      for (let i = Math.max(0, x - r); i <= Math.min(size - 1, x + r); i++) {
        if (e[j * size + i] < 0) continue;
        sum += e[j * size + i];
        count++;
      }
    }
    return sum / count;
  });
}
