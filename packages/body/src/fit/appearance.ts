/**
 * What a fit to points leaves over: between shoulders and face there are none, and detectors are off by a pixel or two. But every place of a body
 * looks much the same in all frames of a clip, so a pose is right where the places of its mesh fall on what they look like elsewhere.
 */
import { Poser } from "../motion/poser.ts";
import type { Motion } from "../motion/motion.ts";
import type { BodyModelData } from "../model/body-model.ts";
import { Rasteriser } from "../raster/rasterise.ts";

/** What a motion is fitted to. */
export interface FitPictures {
  /** Side of the (square) pictures, pixels. */
  size: number;
  /** Which frames they are of, rising. */
  frames: number[];
  /** Their planes `[3, size, size]`. */
  planes: Uint8Array[];
}

/** Most places of the mesh that are looked at. */
const mostPlaces = 1200;
/** A place must be seen in so large a share of the frames to be looked at. */
const oftenSeen = 0.1;
/** Grey levels by which a place may differ from what it looks like elsewhere before it counts half: folds, shadows and wrong places differ more. */
const tolerance = 25;

export class Appearance {
  /** Vertices of the model, in rising order. */
  readonly vertices: readonly number[];
  private readonly pictures: FitPictures;
  /** `[pictures, vertices]`: how much is to be seen of each, 0 for nothing. */
  private readonly seen: Float32Array;
  private blurred: readonly Float32Array[] = [];

  /** @param motion what the points told, with its camera in the pictures' proportions */
  constructor(data: BodyModelData, motion: Motion, pictures: FitPictures) {
    this.pictures = pictures;
    const { size, frames } = pictures;
    const count = frames.length;
    const all = data.vTemplate.length / 3;
    const scale = size / Math.max(motion.camera!.width, motion.camera!.height);
    const { width, height, focal, cx, cy, transl } = motion.camera!;
    const camera = { width: width * scale, height: height * scale, focal: focal * scale, cx: cx * scale, cy: cy * scale, transl };
    const raster = new Rasteriser(data.faces);
    using poser = new Poser(data);
    const views = frames.map((f) => raster.visible(poser.pose(motion, f).vertices, camera));
    const share = new Float32Array(all);
    for (const v of views) for (let i = 0; i < all; i++) share[i] += Math.sign(v[i]) / count;
    const often = [...share.keys()].filter((i) => share[i] >= oftenSeen);
    const every = Math.max(1, often.length / mostPlaces);
    this.vertices = Array.from({ length: Math.floor(often.length / every) }, (_, k) => often[Math.floor(k * every)]);
    const n = this.vertices.length;
    this.seen = new Float32Array(count * n);
    views.forEach((v, f) => this.vertices.forEach((i, k) => (this.seen[f * n + k] = v[i])));
    // In a frame, all that is seen counts as one.
    for (let f = 0; f < count; f++) {
      const row = this.seen.subarray(f * n, (f + 1) * n);
      const total = row.reduce((a, b) => a + b, 0);
      if (total > 0) row.forEach((x, k) => (row[k] = x / total));
    }
  }

  /** Blurs the pictures to look at by so many pixels of theirs; the wider, the farther off a pose may start. */
  blur(sigma: number): void {
    const { size, planes } = this.pictures;
    this.blurred = planes.map((p) => blurPlanes(p, size, sigma));
  }

  /**
   * The gradient of the poses' error (0..1 by picture, summed) to the places on the pictures.
   * @param places of the vertices on some pictures, `[pictures, vertices, 2]`, pixels of theirs
   * @param some which of the pictures
   * @returns `[pictures, vertices, 2]`
   */
  gradient(places: Float32Array, some: readonly number[]): Float32Array {
    const { blurred, seen } = this;
    const { size } = this.pictures;
    const n = this.vertices.length;
    const plane = size * size;
    const colours = new Float32Array(some.length * n * 3);
    const slopes = new Float32Array(some.length * n * 6);
    const means = new Float64Array(n * 4);
    some.forEach((which, f) => {
      const picture = blurred[which];
      for (let k = 0; k < n; k++) {
        const weight = seen[which * n + k];
        if (weight === 0) continue;
        const o = f * n + k;
        // Pixel centres lie at halves.
        const x = Math.min(size - 1.001, Math.max(0, places[2 * o] - 0.5));
        const y = Math.min(size - 1.001, Math.max(0, places[2 * o + 1] - 0.5));
        const [i, j] = [Math.floor(x), Math.floor(y)];
        const [u, v] = [x - i, y - j];
        for (let c = 0; c < 3; c++) {
          const p = c * plane + j * size + i;
          const [a, b, d, e] = [picture[p], picture[p + 1], picture[p + size], picture[p + size + 1]];
          const colour = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * e);
          colours[3 * o + c] = colour;
          slopes[6 * o + 2 * c] = (1 - v) * (b - a) + v * (e - d);
          slopes[6 * o + 2 * c + 1] = (1 - u) * (d - a) + u * (e - b);
          means[4 * k + c] += weight * colour;
        }
        means[4 * k + 3] += weight;
      }
    });
    const gradient = new Float32Array(some.length * n * 2);
    some.forEach((which, f) => {
      for (let k = 0; k < n; k++) {
        const weight = seen[which * n + k];
        if (weight === 0) continue;
        const o = f * n + k;
        let [square, gx, gy] = [0, 0, 0];
        for (let c = 0; c < 3; c++) {
          const d = (colours[3 * o + c] - means[4 * k + c] / means[4 * k + 3]) / tolerance;
          square += (d * d) / 3;
          gx += (2 / 3 / tolerance) * d * slopes[6 * o + 2 * c];
          gy += (2 / 3 / tolerance) * d * slopes[6 * o + 2 * c + 1];
        }
        // Of Geman and McClure's square / (1 + square).
        const w = weight / (1 + square) ** 2;
        gradient[2 * o] = w * gx;
        gradient[2 * o + 1] = w * gy;
      }
    });
    return gradient;
  }
}

/** Each plane blurred by a Gaussian; the border goes on beyond itself. */
function blurPlanes(planes: Uint8Array, size: number, sigma: number): Float32Array {
  const radius = Math.ceil(2.5 * sigma);
  const kernel = Float32Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const total = kernel.reduce((a, b) => a + b, 0);
  const along = (from: ArrayLike<number>, step: number, lineStep: number): Float32Array => {
    const out = new Float32Array(3 * size * size);
    for (let c = 0; c < 3; c++) {
      for (let line = 0; line < size; line++) {
        const base = c * size * size + line * lineStep;
        for (let i = 0; i < size; i++) {
          let sum = 0;
          for (let k = -radius; k <= radius; k++) sum += kernel[k + radius] * from[base + Math.min(size - 1, Math.max(0, i + k)) * step];
          out[base + i * step] = sum / total;
        }
      }
    }
    return out;
  };
  return along(along(planes, 1, size), size, 1);
}
