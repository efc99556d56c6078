/**
 * How a clip's camera moved: where what lies behind the person is in a frame, against where it is in a picture of them all. Found on what is away
 * from the mesh, as a shift, a turn and a zoom, by Lucas and Kanade's way of aligning pictures, from blurred ones to sharp ones; what is fixed to the
 * screen is found on the way and left out.
 */
import { setImmediate as breathe } from "node:timers/promises";
import { solveLinear } from "@make-your-anchor/diffusion";
import { saveMotion, type Motion } from "@make-your-anchor/body";
import { applyAffine, gaussianBlur, invertAffine, readImage, resizePil, type Affine } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { nearMesh } from "./background.ts";
import { aside, layeredBackground, most } from "./layers.ts";
import { reachOf, toShares, type View } from "./view.ts";
import { spread, toPlanes } from "../dataset.ts";
import type { WorkOptions } from "../progress.ts";

/** Side of the pictures that are looked at, pixels; larger frames are made smaller. */
const side = 128;
/** Blurs, as a share of the side: a camera may have moved by a few times the first. */
const blurs = [1 / 24, 1 / 64, 0];
const rounds = 6;
/** Differences, grey levels, from which a pixel counts half and less: what moves by itself is not the camera. */
const tolerance = 10;
/** Half of the frames must have moved by this share of the side at a corner: less is noise, and no camera. */
const least = 0.0025;
/** Where they moved by less than this before anything fixed to the screen was found, nothing such can have hidden a movement. */
const nothing = 0.0008;
/** No frame is taken to lie farther away than this share of the side. */
const farthest = 0.15;
/** There must be so large a share of pixels to look at. */
const leastSeen = 0.02;
/** Share of the frames that must have seen a place of the background for it to tell. */
const known = 0.3;
/** How often the background is built from the views, and the views found anew against it. */
const refinements = 2;

/** Frames and conditions of a clip, planes `[3, size, size]`, by number. */
export interface Filmed {
  count: number;
  size: number;
  frame: (i: number) => Promise<Uint8Array>;
  condition: (i: number) => Promise<Uint8Array>;
}

/** A picture's brightness with the weights of its pixels, blurred more and more finely. */
interface Plate {
  levels: { grey: Float32Array; weight: Float32Array }[];
}

function plateOf(picture: Uint8Array, counts: (p: number) => boolean, size: number): Plate {
  const n = size * size;
  const weight = Float32Array.from({ length: n }, (_, p) => (counts(p) ? 1 : 0));
  const weighted = weight.map((w, p) => w * (0.299 * picture[p] + 0.587 * picture[n + p] + 0.114 * picture[2 * n + p]));
  const plane = { width: size, height: size };
  return {
    levels: blurs.map((share) => {
      const sigma = share * size;
      if (sigma < 0.5) return { grey: weighted, weight };
      const taps = 2 * Math.ceil(2.5 * sigma) + 1;
      const [g, w] = [weighted, weight].map((x) => gaussianBlur(x, plane, taps, sigma));
      return { grey: g.map((v, p) => (w[p] > 1e-3 ? v / w[p] : 0)), weight: w.map((v, p) => (weight[p] > 0 ? v : 0)) };
    }),
  };
}

/** What a reference's pixels tell about a view: those that count with all their neighbours, their brightness, and how it rises to the right and down. */
interface Slopes {
  pixels: Int32Array;
  values: Float32Array;
}
function slopesOf(reference: Plate, size: number): Slopes[] {
  return reference.levels.map(({ grey, weight }) => {
    const pixels: number[] = [];
    const values: number[] = [];
    for (let j = 1; j < size - 1; j++) {
      for (let i = 1; i < size - 1; i++) {
        const p = j * size + i;
        const least = Math.min(weight[p], weight[p - 1], weight[p + 1], weight[p - size], weight[p + size]);
        if (least <= 0) continue;
        pixels.push(p);
        values.push(grey[p], (grey[p + 1] - grey[p - 1]) / 2, (grey[p + size] - grey[p - size]) / 2, weight[p]);
      }
    }
    return { pixels: Int32Array.from(pixels), values: Float32Array.from(values) };
  });
}

const unmoved: View = [1, 0, 0, 0, 1, 0];
/** Turned and zoomed by `1 + a + b·i` about the picture's middle, then shifted. */
const turned = (a: number, b: number, x: number, y: number, size: number): View => {
  const c = (size - 1) / 2;
  return [1 + a, -b, x - a * c + b * c, b, 1 + a, y - b * c - a * c];
};

/**
 * The view under which a frame shows the reference, looked for around another; that one where too little is to be seen or none is near.
 * @param from the first blur: 1 where the view is nearly known
 */
function align(reference: readonly Slopes[], frame: Plate, start: View, size: number, from = 0): View {
  const c = (size - 1) / 2;
  // Of the middle: that, and a turn about it, hardly hang together.
  let [a, b] = [start[0] - 1, start[3]];
  let [x, y] = applyAffine(start, c, c).map((v) => v - c);
  const g = new Float64Array(4);
  const normal = new Float64Array(16);
  const right = new Float64Array(4);
  for (let l = from; l < blurs.length; l++) {
    const { pixels, values } = reference[l];
    const { grey, weight } = frame.levels[l];
    for (let round = 0; round < rounds; round++) {
      const [va, vb, vx, vc, vd, vy] = turned(a, b, x, y, size);
      normal.fill(0);
      right.fill(0);
      let count = 0;
      for (let k = 0; k < pixels.length; k++) {
        const [i, j] = [pixels[k] % size, Math.floor(pixels[k] / size)];
        const [px, py] = [va * i + vb * j + vx, vc * i + vd * j + vy];
        const [fx, fy] = [Math.floor(px), Math.floor(py)];
        if (fx < 0 || fy < 0 || fx + 1 >= size || fy + 1 >= size) continue;
        const p = fy * size + fx;
        const seen = Math.min(weight[p], weight[p + 1], weight[p + size], weight[p + size + 1]);
        if (seen <= 0) continue;
        const [u, v] = [px - fx, py - fy];
        const value = (1 - v) * ((1 - u) * grey[p] + u * grey[p + 1]) + v * ((1 - u) * grey[p + size] + u * grey[p + size + 1]);
        const o = 4 * k;
        const d = value - values[o];
        const w = (values[o + 3] * seen) / (1 + (d / tolerance) ** 2) ** 2;
        const [gx, gy] = [values[o + 1], values[o + 2]];
        g[0] = gx;
        g[1] = gy;
        g[2] = gx * (i - c) + gy * (j - c);
        g[3] = gy * (i - c) - gx * (j - c);
        for (let q = 0; q < 4; q++) {
          right[q] -= w * g[q] * d;
          for (let s = 0; s <= q; s++) normal[4 * q + s] += w * g[q] * g[s];
        }
        count++;
      }
      if (count < leastSeen * size * size) return start;
      // Damped: what hardly shows, as a turn before a plain wall, stays as it is.
      const damping = [1, 1, c * c, c * c].map((v) => v * count * 0.02);
      const rows = damping.map((extra, q) => damping.map((_, s) => normal[4 * Math.max(q, s) + Math.min(q, s)] + (q === s ? extra : 0)));
      const step = solveLinear(rows, [...right]);
      [x, y, a, b] = [x + step[0], y + step[1], a + step[2], b + step[3]];
      if (Math.hypot(step[0], step[1]) + c * Math.hypot(step[2], step[3]) < 0.01) break;
    }
  }
  const found = turned(a, b, x, y, size);
  return reachOf(found, size) <= farthest * size ? found : start;
}

/** `a` after `b`. */
const after = ([a, b, tx, c, d, ty]: View, [a2, b2, tx2, c2, d2, ty2]: View): View => [
  a * a2 + b * c2,
  a * b2 + b * d2,
  a * tx2 + b * ty2 + tx,
  c * a2 + d * c2,
  c * b2 + d * d2,
  c * tx2 + d * ty2 + ty,
];

/** About their mean, so that what is rendered without a camera's movement stands where the clip mostly showed it. */
function centred(views: readonly View[]): View[] {
  const back = invertAffine(unmoved.map((_, k) => views.reduce((s, v) => s + v[k], 0) / views.length) as unknown as Affine);
  return views.map((v) => after(v, back));
}

const stood = (views: readonly View[], size: number, share: number): boolean =>
  views.filter((v) => reachOf(v, size) >= share * size).length < views.length / 2;

/** The views of a clip's frames, from their mean; null where the camera stood still. */
export async function cameraViews(filmed: Filmed, o: WorkOptions = {}): Promise<View[] | null> {
  const { count, size } = filmed;
  if (count < 2) return null;
  const few = Math.min(most, count);
  const pictures: Uint8Array[] = [];
  const conditions: Uint8Array[] = [];
  for (const i of spread(few, count)) {
    pictures.push(await filmed.frame(i));
    conditions.push(await filmed.condition(i));
  }
  const total = few * (1 + refinements) + count;
  let done = 0;
  const step = async () => {
    if (++done % 16 !== 0 && done !== total) return;
    o.signal?.throwIfAborted();
    o.onProgress?.({ stage: "following the camera", done, total });
    await breathe();
  };
  const stoodStill = (share: number) => {
    if (!stood(views, size, share)) return false;
    o.onProgress?.({ stage: "following the camera", done: total, total });
    return true;
  };
  const away = (condition: Uint8Array, fixed?: Uint8Array) => {
    const near = nearMesh(condition, size, aside);
    return (p: number) => near[p] === 0 && fixed?.[p] !== 1;
  };
  const plates = (fixed?: Uint8Array) => (k: number) => plateOf(pictures[k], away(conditions[k], fixed), size);

  // Outward from the middle one, each from where its neighbour was found.
  const middle = few >> 1;
  const order = [
    ...Array.from({ length: few - middle }, (_, k) => middle + k),
    ...Array.from({ length: middle }, (_, k) => middle - 1 - k),
  ];
  let views = pictures.map(() => unmoved);
  let reference = slopesOf(plates()(middle), size);
  for (const k of order) {
    if (k !== middle) views[k] = align(reference, plates()(k), views[k > middle ? k - 1 : k + 1], size);
    await step();
  }
  views = centred(views);
  let fixed: Uint8Array | undefined;
  for (let r = 0; r < refinements; r++) {
    if (stoodStill(r === 0 ? nothing : least)) return null;
    const { background, seen } = await layeredBackground(pictures, conditions, views, size, o.signal);
    fixed = background.screen?.fixed;
    reference = slopesOf(
      plateOf(background.planesBehind(), (p) => seen[p] >= known, size),
      size,
    );
    const of = plates(fixed);
    for (let k = 0; k < few; k++) {
      views[k] = align(reference, of(k), views[k], size, 1);
      await step();
    }
    views = centred(views);
  }
  if (stoodStill(least)) return null;
  const all: View[] = [];
  for (let i = 0; i < count; i++) {
    const condition = await filmed.condition(i);
    const start = all[i - 1] ?? views[0];
    all.push(align(reference, plateOf(await filmed.frame(i), away(condition, fixed), size), start, size));
    await step();
  }
  return centred(all);
}

/** Finds how the camera of an avatar's clip moved, and keeps it with its motion: drafts show the background there. What the motion says already is believed. */
export async function followCamera(avatar: Avatar, motion: Motion, o: WorkOptions = {}): Promise<void> {
  if (motion.views) return;
  const { frames: count, resolution } = avatar.info;
  const size = Math.min(side, resolution);
  const read = async (path: string) => toPlanes(resizePil(await readImage(path), size, size, "lanczos"));
  const views = await cameraViews({ count, size, frame: (i) => read(avatar.frame(i)), condition: (i) => read(avatar.condition(i)) }, o);
  if (!views) return;
  motion.views = Float32Array.from(views.flatMap((v) => [...toShares(v, size)]));
  saveMotion(avatar.motionPath, motion);
}
