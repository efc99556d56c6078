/** How near generated frames come to true ones: PSNR, SSIM and sharpness, over whole frames and over a region. */

/** Pixel planes `[3, H, W]`, bytes. */
export type Planes = Uint8Array;

export interface Scores {
  /** Decibels, mean over frames; values 0..1. */
  psnr: number;
  /** Wang et al. 2004, Gaussian window 11 wide of deviation 1.5, mean over channels. */
  ssim: number;
  /** Energy of the Laplacian over that of the true frames: 1 is as sharp as the truth, blur is below. */
  sharpness: number;
}

/** What a clip's pixels are over its frames, looked at one by one. */
export class PixelStatistics {
  private readonly sum: Float64Array;
  private readonly squares: Float64Array;
  private count = 0;

  /** @param size side of the frames, pixels */
  constructor(size: number) {
    this.sum = new Float64Array(3 * size * size);
    this.squares = new Float64Array(3 * size * size);
  }
  add(frame: Planes): void {
    this.count++;
    frame.forEach((byte, i) => {
      this.sum[i] += byte;
      this.squares[i] += byte * byte;
    });
  }
  /** The mean frame. */
  mean(): Planes {
    return Uint8Array.from(this.sum, (s) => Math.round(s / this.count));
  }
  /** Pixels that move: standard deviation above 0.04 (0..1 scale, mean of channels). `[H·W]` of 0 and 1. */
  moving(): Uint8Array {
    const { sum, squares, count } = this;
    const n = sum.length / 3;
    const deviation = (i: number) => Math.sqrt(Math.max(0, squares[i] / count - (sum[i] / count) ** 2)) / 255;
    return Uint8Array.from({ length: n }, (_, i) => ((deviation(i) + deviation(n + i) + deviation(2 * n + i)) / 3 > 0.04 ? 1 : 0));
  }
}

const gaussian = (() => {
  const w = Float64Array.from({ length: 11 }, (_, i) => Math.exp(-((i - 5) ** 2) / (2 * 1.5 ** 2)));
  const total = w.reduce((a, b) => a + b, 0);
  return w.map((x) => x / total);
})();

/** Gaussian blur of one plane, borders repeated. */
function blur(x: Float64Array, size: number): Float64Array {
  const pass = (source: Float64Array, stride: number, across: number) => {
    const out = new Float64Array(source.length);
    for (let a = 0; a < size; a++) {
      for (let b = 0; b < size; b++) {
        let v = 0;
        for (let k = -5; k <= 5; k++) v += gaussian[k + 5] * source[a * across + Math.min(size - 1, Math.max(0, b + k)) * stride];
        out[a * across + b * stride] = v;
      }
    }
    return out;
  };
  return pass(pass(x, 1, size), size, 1);
}

/** SSIM of each pixel, mean of channels. */
function ssimMap(a: Planes, b: Planes, size: number): Float64Array {
  const n = size * size;
  const out = new Float64Array(n);
  const [c1, c2] = [0.01 ** 2, 0.03 ** 2];
  for (let c = 0; c < 3; c++) {
    const x = Float64Array.from(a.subarray(c * n, (c + 1) * n), (v) => v / 255);
    const y = Float64Array.from(b.subarray(c * n, (c + 1) * n), (v) => v / 255);
    const [mx, my] = [blur(x, size), blur(y, size)];
    const [xx, yy, xy] = [
      blur(
        x.map((v) => v * v),
        size,
      ),
      blur(
        y.map((v) => v * v),
        size,
      ),
      blur(
        x.map((v, i) => v * y[i]),
        size,
      ),
    ];
    for (let i = 0; i < n; i++) {
      const [vx, vy, cov] = [xx[i] - mx[i] ** 2, yy[i] - my[i] ** 2, xy[i] - mx[i] * my[i]];
      out[i] += ((2 * mx[i] * my[i] + c1) * (2 * cov + c2)) / ((mx[i] ** 2 + my[i] ** 2 + c1) * (vx + vy + c2)) / 3;
    }
  }
  return out;
}

function laplacianEnergy(p: Planes, size: number, mask: Uint8Array | null): number {
  const n = size * size;
  let energy = 0;
  for (let c = 0; c < 3; c++) {
    for (let y = 1; y + 1 < size; y++) {
      for (let x = 1; x + 1 < size; x++) {
        const i = y * size + x;
        if (mask && !mask[i]) continue;
        const o = c * n + i;
        energy += ((4 * p[o] - p[o - 1] - p[o + 1] - p[o - size] - p[o + size]) / 255) ** 2;
      }
    }
  }
  return energy;
}

/** Scores of frames that come one by one, in several regions at once. */
export class Scoring {
  private readonly size: number;
  private readonly regions: { mask: Uint8Array | null; pixels: number; psnr: number; ssim: number; mine: number; theirs: number }[];
  private count = 0;

  /**
   * @param size side of the frames, pixels
   * @param masks `[H·W]` of 0 and 1 each; null: everywhere
   */
  constructor(size: number, masks: readonly (Uint8Array | null)[]) {
    this.size = size;
    this.regions = masks.map((mask) => ({
      mask,
      pixels: mask ? mask.reduce((a, b) => a + b, 0) : size * size,
      psnr: 0,
      ssim: 0,
      mine: 0,
      theirs: 0,
    }));
  }

  add(made: Planes, truth: Planes): void {
    const n = this.size * this.size;
    const map = ssimMap(made, truth, this.size);
    this.count++;
    for (const r of this.regions) {
      const { mask, pixels } = r;
      let squares = 0;
      for (let c = 0; c < 3; c++)
        for (let i = 0; i < n; i++) if (!mask || mask[i]) squares += ((made[c * n + i] - truth[c * n + i]) / 255) ** 2;
      r.psnr += -10 * Math.log10(Math.max(1e-10, squares / (3 * pixels)));
      let s = 0;
      for (let i = 0; i < n; i++) if (!mask || mask[i]) s += map[i];
      r.ssim += s / pixels;
      r.mine += laplacianEnergy(made, this.size, mask);
      r.theirs += laplacianEnergy(truth, this.size, mask);
    }
  }

  /** One for each region: the means over what was added. */
  scores(): Scores[] {
    return this.regions.map(({ psnr, ssim, mine, theirs }) => ({
      psnr: psnr / this.count,
      ssim: ssim / this.count,
      sharpness: mine / theirs,
    }));
  }
}

/** Scores of `made` against `truth`, frame by frame; `mask` limits where (null: everywhere). */
export function score(made: readonly Planes[], truth: readonly Planes[], size: number, mask: Uint8Array | null): Scores {
  const scoring = new Scoring(size, [mask]);
  truth.forEach((t, f) => scoring.add(made[f], t));
  return scoring.scores()[0];
}

/** Of frames that come one by one those with the smallest squared difference to each of some targets. */
export class NearestFrames {
  /** One for each target: the number that its nearest frame was added by, -1 before any was. */
  readonly best: number[];
  private readonly targets: readonly Planes[];
  private readonly least: number[];

  constructor(targets: readonly Planes[]) {
    this.targets = targets;
    this.best = targets.map(() => -1);
    this.least = targets.map(() => Number.POSITIVE_INFINITY);
  }
  add(frame: Planes, number: number): void {
    this.targets.forEach((target, k) => {
      const least = this.least[k];
      let d = 0;
      for (let i = 0; i < frame.length && d < least; i++) d += (frame[i] - target[i]) ** 2;
      if (d >= least) return;
      this.best[k] = number;
      this.least[k] = d;
    });
  }
}
