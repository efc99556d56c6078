/**
 * The resizes the reference uses, to the bit: PIL's fixed-point resampler (Pillow's Resample.c, 8 bits) and OpenCV's
 * INTER_LINEAR with 11-bit weights. Libraries' own resizes differ by up to 100 grey levels (docs/design/images.md).
 */
import { blankImage, type RgbImage } from "./image.ts";

export type Filter = "bilinear" | "bicubic" | "lanczos";

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const filters: Record<Filter, { support: number; weight: (x: number) => number }> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x0) => {
      const a = -0.5;
      const x = Math.abs(x0);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
      return 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Weights have 22 fractional bits: 32 less 8 for the pixel and 2 against overflow. */
const bits = 22;

interface Taps {
  from: Int32Array;
  count: Int32Array;
  weights: Int32Array;
  stride: number;
}

function taps(inSize: number, outSize: number, filter: Filter): Taps {
  const { support: radius, weight } = filters[filter];
  const scale = inSize / outSize;
  const filterScale = Math.max(1, scale);
  const support = radius * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const out: Taps = { from: new Int32Array(outSize), count: new Int32Array(outSize), weights: new Int32Array(outSize * stride), stride };
  const k = new Float64Array(stride);
  for (let i = 0; i < outSize; i++) {
    const center = (i + 0.5) * scale;
    const min = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(inSize, Math.trunc(center + support + 0.5)) - min;
    let total = 0;
    for (let j = 0; j < n; j++) total += k[j] = weight((j + min - center + 0.5) / filterScale);
    for (let j = 0; j < n; j++) {
      const w = (total === 0 ? k[j] : k[j] / total) * (1 << bits);
      out.weights[i * stride + j] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5);
    }
    out.from[i] = min;
    out.count[i] = n;
  }
  return out;
}

const half = 1 << (bits - 1);
const clip = (v: number) => (v < 0 ? 0 : v > 255 ? 255 : v);

/** As PIL's `Image.resize(size, resample)` of an RGB picture: antialiased when shrinking. */
export function resizePil(image: RgbImage, width: number, height: number, filter: Filter): RgbImage {
  let at = image;
  if (width !== at.width) {
    const t = taps(at.width, width, filter);
    const next = blankImage(width, at.height);
    for (let y = 0; y < at.height; y++) {
      for (let x = 0; x < width; x++) {
        let [r, g, b] = [half, half, half];
        let from = (y * at.width + t.from[x]) * 3;
        for (let j = 0, w = x * t.stride; j < t.count[x]; j++, w++, from += 3) {
          r += at.data[from] * t.weights[w];
          g += at.data[from + 1] * t.weights[w];
          b += at.data[from + 2] * t.weights[w];
        }
        const to = (y * width + x) * 3;
        next.data[to] = clip(r >> bits);
        next.data[to + 1] = clip(g >> bits);
        next.data[to + 2] = clip(b >> bits);
      }
    }
    at = next;
  }
  if (height !== at.height) {
    const t = taps(at.height, height, filter);
    const row = width * 3;
    const next = blankImage(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < row; x++) {
        let v = half;
        for (let j = 0, from = t.from[y] * row + x; j < t.count[y]; j++, from += row) v += at.data[from] * t.weights[y * t.stride + j];
        next.data[y * row + x] = clip(v >> bits);
      }
    }
    at = next;
  }
  return at === image ? { ...image, data: image.data.slice() } : at;
}

/** As `cv2.resize(image, (width, height))`: half-pixel centres, no antialiasing, 11-bit weights. */
export function resizeCv2(image: RgbImage, width: number, height: number): RgbImage {
  const axis = (inSize: number, outSize: number) => {
    const at = new Int32Array(outSize);
    const next = new Int32Array(outSize);
    const weight = new Int32Array(outSize); // of `next`; the other is 2048 less it
    for (let i = 0; i < outSize; i++) {
      const f = Math.fround((i + 0.5) * (inSize / outSize) - 0.5);
      let s = Math.floor(f);
      let rest = f - s;
      if (s < 0) [s, rest] = [0, 0];
      if (s >= inSize - 1) [s, rest] = [inSize - 1, 0];
      at[i] = s;
      next[i] = Math.min(inSize - 1, s + 1);
      weight[i] = Math.round(rest * 2048);
    }
    return { at, next, weight };
  };
  const [ax, ay] = [axis(image.width, width), axis(image.height, height)];
  const out = blankImage(width, height);
  const src = image.data;
  for (let y = 0; y < height; y++) {
    const [top, bottom, by] = [ay.at[y] * image.width, ay.next[y] * image.width, ay.weight[y]];
    for (let x = 0; x < width; x++) {
      const [l, r, bx] = [ax.at[x], ax.next[x], ax.weight[x]];
      for (let c = 0; c < 3; c++) {
        const upper = src[(top + l) * 3 + c] * (2048 - bx) + src[(top + r) * 3 + c] * bx;
        const lower = src[(bottom + l) * 3 + c] * (2048 - bx) + src[(bottom + r) * 3 + c] * bx;
        out.data[(y * width + x) * 3 + c] = ((((2048 - by) * (upper >> 4)) >> 16) + ((by * (lower >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return out;
}
