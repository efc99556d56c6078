/** Affine warps: as OpenCV's `warpAffine` (bilinear, positions to 1/32 of a pixel, in its fixed-point arithmetic), and by cubic convolution. */
import { blankImage, type RgbImage } from "./image.ts";

/** `[a, b, tx, c, d, ty]`: x' = a·x + b·y + tx, y' = c·x + d·y + ty, pixels, pixel centres at whole numbers. */
export type Affine = readonly [number, number, number, number, number, number];

/** The way back, with OpenCV's order of operations. All zero for a matrix without one. */
export function invertAffine([a, b, tx, c, d, ty]: Affine): Affine {
  const determinant = a * d - b * c;
  const f = determinant === 0 ? 0 : 1 / determinant;
  const [ia, ib, ic, id] = [d * f, b * -f, c * -f, a * f];
  return [ia, ib, -ia * tx - ib * ty, ic, id, -ic * tx - id * ty];
}

export const applyAffine = ([a, b, tx, c, d, ty]: Affine, x: number, y: number): [number, number] => [
  a * x + b * y + tx,
  c * x + d * y + ty,
];

/** Half to even, as `cvRound`. */
const round = (x: number): number => {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
};

/** For every output pixel the source position in 1/32 pixels. `inverse` leads from the output to the source. */
function forEachPosition([a, b, tx, c, d, ty]: Affine, width: number, height: number, visit: (at: number, x: number, y: number) => void) {
  const alongX = Int32Array.from({ length: width }, (_, x) => round(a * x * 1024));
  const alongY = Int32Array.from({ length: width }, (_, x) => round(c * x * 1024));
  for (let y = 0; y < height; y++) {
    const x0 = round((b * y + tx) * 1024) + 16;
    const y0 = round((d * y + ty) * 1024) + 16;
    for (let x = 0; x < width; x++) visit(y * width + x, (x0 + alongX[x]) >> 5, (y0 + alongY[x]) >> 5);
  }
}

/**
 * As `cv2.warpAffine(image, matrix, (width, height))` of 8 bits, bit-exact; black outside the source.
 * @param matrix from the source to the result
 */
export function warpAffine(image: RgbImage, matrix: Affine, width: number, height: number): RgbImage {
  const out = blankImage(width, height);
  const { data: src, width: w, height: h } = image;
  forEachPosition(invertAffine(matrix), width, height, (at, px, py) => {
    const [x, y] = [px >> 5, py >> 5];
    if (x < -1 || y < -1 || x >= w || y >= h) return;
    const [fx, fy] = [px & 31, py & 31];
    // Weights of 15 bits that sum to 2^15.
    const weights = [(32 - fx) * (32 - fy) * 32, fx * (32 - fy) * 32, (32 - fx) * fy * 32, fx * fy * 32];
    let [r, g, b] = [1 << 14, 1 << 14, 1 << 14];
    for (let k = 0; k < 4; k++) {
      const [sx, sy] = [x + (k & 1), y + (k >> 1)];
      if (sx < 0 || sy < 0 || sx >= w || sy >= h) continue;
      const from = (sy * w + sx) * 3;
      r += weights[k] * src[from];
      g += weights[k] * src[from + 1];
      b += weights[k] * src[from + 2];
    }
    out.data[at * 3] = r >> 15;
    out.data[at * 3 + 1] = g >> 15;
    out.data[at * 3 + 2] = b >> 15;
  });
  return out;
}

/** The same of float planes `[channels, h, w]`, one after the other; 0 outside the source. */
export function warpPlanes(
  planes: Float32Array,
  source: { width: number; height: number },
  matrix: Affine,
  width: number,
  height: number,
): Float32Array {
  const { width: w, height: h } = source;
  const channels = planes.length / (w * h);
  const out = new Float32Array(channels * width * height);
  forEachPosition(invertAffine(matrix), width, height, (at, px, py) => {
    const [x, y] = [px >> 5, py >> 5];
    if (x < -1 || y < -1 || x >= w || y >= h) return;
    const [fx, fy] = [(px & 31) / 32, (py & 31) / 32];
    const weights = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy];
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) {
        const [sx, sy] = [x + (k & 1), y + (k >> 1)];
        if (sx >= 0 && sy >= 0 && sx < w && sy < h) sum += weights[k] * planes[(c * h + sy) * w + sx];
      }
      out[c * width * height + at] = sum;
    }
  });
  return out;
}

/** Weights of the four pixels around a place `t` of the way between the inner two (cubic convolution: Keys 1981, a = −1/2; also Catmull and Rom's). */
export function cubicWeights(t: number, out: Float64Array): void {
  out[0] = ((-0.5 * t + 1) * t - 0.5) * t;
  out[1] = (1.5 * t - 2.5) * t * t + 1;
  out[2] = ((-1.5 * t + 2) * t + 0.5) * t;
  out[3] = (0.5 * t - 0.5) * t * t;
}

/** `warpPlanes` by cubic convolution, at exact positions: what is warped there and back loses far less of its detail. It may overshoot. 0 outside the source. */
export function warpPlanesCubic(
  planes: ArrayLike<number>,
  source: { width: number; height: number },
  matrix: Affine,
  width: number,
  height: number,
): Float32Array {
  const { width: w, height: h } = source;
  const channels = planes.length / (w * h);
  const out = new Float32Array(channels * width * height);
  const back = invertAffine(matrix);
  const [across, down] = [new Float64Array(4), new Float64Array(4)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = applyAffine(back, x, y);
      const [i, j] = [Math.floor(u), Math.floor(v)];
      if (!(i >= -2 && j >= -2 && i <= w && j <= h)) continue;
      cubicWeights(u - i, across);
      cubicWeights(v - j, down);
      for (let b = 0; b < 4; b++) {
        const sy = j + b - 1;
        if (sy < 0 || sy >= h) continue;
        for (let a = 0; a < 4; a++) {
          const sx = i + a - 1;
          if (sx < 0 || sx >= w) continue;
          const weight = down[b] * across[a];
          for (let c = 0; c < channels; c++) out[(c * height + y) * width + x] += weight * planes[(c * h + sy) * w + sx];
        }
      }
    }
  }
  return out;
}
