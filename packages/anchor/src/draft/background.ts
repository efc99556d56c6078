/**
 * What lies behind a clip's person: one picture, seen through a camera that may have moved (`camera-move.ts`), and what is fixed to the screen before
 * it (`layers.ts`).
 */
import { applyAffine, cubicWeights, invertAffine } from "@make-your-anchor/media";
import type { View } from "./view.ts";

/** What a pixel tells about the background: away from the mesh, where hair and clothes reach beyond it, and where something else is before it. */
export const trust = { away: 1, near: 1e-2, covered: 1e-3 } as const;
/** How far hair and clothes reach, as a share of the picture's side. */
const reach = 0.03;
/** Whether the mesh is at pixel `p` of a condition, planes of `n` pixels. */
export const meshAt = (condition: Uint8Array, n: number, p: number) => condition[p] + condition[n + p] + condition[2 * n + p] > 0;

/**
 * Where the mesh is near, `[size, size]` of 0 and 1.
 * @param condition the mesh, planes `[3, size, size]`
 * @param share how near, as a share of the side; default as far as hair and clothes reach
 */
export function nearMesh(condition: Uint8Array, size: number, share = reach): Uint8Array {
  const n = size * size;
  const r = Math.max(1, Math.round(share * size));
  const rows = new Uint8Array(n);
  const out = new Uint8Array(n);
  // A square: along the rows, then along the columns.
  for (let p = 0; p < n; p++) {
    if (!meshAt(condition, n, p)) continue;
    const x = p % size;
    rows.fill(1, p - Math.min(r, x), p + Math.min(r, size - 1 - x) + 1);
  }
  for (let p = 0; p < n; p++) {
    if (rows[p] === 0) continue;
    const y = Math.floor(p / size);
    for (let dy = -Math.min(r, y); dy <= Math.min(r, size - 1 - y); dy++) out[p + dy * size] = 1;
  }
  return out;
}

// Repeated bilinear samplings would blur.
const across = new Float64Array(4);
const down = new Float64Array(4);

/** Planes `[3, side, side]` at a place, into `out`; edges repeat. */
export function sample(planes: ArrayLike<number>, side: number, x: number, y: number, out: Float64Array): void {
  const n = side * side;
  const [i, j] = [Math.floor(x), Math.floor(y)];
  cubicWeights(x - i, across);
  cubicWeights(y - j, down);
  out.fill(0);
  for (let b = 0; b < 4; b++) {
    const row = Math.min(side - 1, Math.max(0, j + b - 1)) * side;
    for (let a = 0; a < 4; a++) {
      const p = row + Math.min(side - 1, Math.max(0, i + a - 1));
      const w = down[b] * across[a];
      for (let c = 0; c < 3; c++) out[c] += w * planes[c * n + p];
    }
  }
}
const colour = new Float64Array(3);

/** Sums of colours over frames: of every pixel red, green, blue times weight, and weight. */
export class BackgroundSums {
  readonly side: number;
  private readonly sums: Float32Array;

  constructor(side: number) {
    this.side = side;
    this.sums = new Float32Array(4 * side * side);
  }
  /** A frame as it is, planes `[3, side, side]`; `hidden` where the mesh is, `near` around it. */
  add(picture: Uint8Array, hidden: (p: number) => boolean, near: Uint8Array): void {
    const n = this.side ** 2;
    for (let p = 0; p < n; p++)
      if (!hidden(p)) this.put(p, near[p] ? trust.near : trust.away, picture[p], picture[n + p], picture[2 * n + p]);
  }
  put(p: number, weight: number, r: number, g: number, b: number): void {
    const { sums } = this;
    sums[4 * p] += weight * r;
    sums[4 * p + 1] += weight * g;
    sums[4 * p + 2] += weight * b;
    sums[4 * p + 3] += weight;
  }
  join(other: BackgroundSums): void {
    for (let i = 0; i < this.sums.length; i++) this.sums[i] += other.sums[i];
  }
  weight(p: number): number {
    return this.sums[4 * p + 3];
  }
  /** Planes `[3, side, side]`. */
  mean(): Uint8Array {
    const n = this.side ** 2;
    const filled = fill(this.sums, this.side);
    const out = new Uint8Array(3 * n);
    for (let p = 0; p < n; p++) for (let c = 0; c < 3; c++) out[c * n + p] = Math.min(255, Math.max(0, Math.round(filled[3 * p + c])));
    return out;
  }
}

/** Mean colours `[side, side, 3]` of sums `[side, side, 4]`; what was never seen gets those around it, from smaller and smaller pictures: no ghost of who always stood there. */
function fill(sums: Float32Array, side: number): Float32Array {
  const out = new Float32Array(3 * side * side);
  const half = Math.ceil(side / 2);
  let behind: Float32Array | undefined;
  const smaller = () => {
    const coarse = new Float32Array(4 * half * half);
    for (let p = 0; p < side * side; p++) {
      const weight = sums[4 * p + 3];
      if (weight === 0) continue;
      const o = 4 * ((Math.floor(p / side) >> 1) * half + ((p % side) >> 1));
      for (let c = 0; c < 3; c++) coarse[o + c] += sums[4 * p + c] / weight;
      coarse[o + 3]++;
    }
    return fill(coarse, half);
  };
  for (let p = 0; p < side * side; p++) {
    const weight = sums[4 * p + 3];
    if (weight > 0) {
      for (let c = 0; c < 3; c++) out[3 * p + c] = sums[4 * p + c] / weight;
      continue;
    }
    if (side === 1) return out.fill(127.5);
    behind ??= smaller();
    // Between the centres of the four nearest.
    const [x, y] = [p % side, Math.floor(p / side)].map((v) => Math.min(half - 1, Math.max(0, v / 2 - 0.25)));
    const [i, j] = [Math.floor(x), Math.floor(y)];
    const [i1, j1] = [Math.min(half - 1, i + 1), Math.min(half - 1, j + 1)];
    const [u, v] = [x - i, y - j];
    for (let c = 0; c < 3; c++) {
      const at = (a: number, b: number) => behind![3 * (b * half + a) + c];
      out[3 * p + c] = (1 - v) * ((1 - u) * at(i, j) + u * at(i1, j)) + v * ((1 - u) * at(i, j1) + u * at(i1, j1));
    }
  }
  return out;
}

/** What is fixed to the screen. */
export interface Screen {
  /** `[3, size, size]`. */
  picture: Uint8Array;
  /** `[size, size]` of 0 and 1: where it is before the background. */
  fixed: Uint8Array;
}

export class Background {
  /** Side of the frames, pixels. */
  readonly size: number;
  /** `[3, side, side]`, the middle of it where frames are that the camera did not move in. */
  readonly picture: Uint8Array;
  readonly screen: Screen | undefined;

  /** @param picture as large as a frame, or larger by as much at each edge */
  constructor(size: number, picture: Uint8Array, screen?: Screen) {
    this.size = size;
    this.picture = picture;
    this.screen = screen;
  }

  /** A frame of it that the camera did not move in, without what is fixed before it, planes `[3, size, size]`. */
  planesBehind(): Uint8Array {
    return this.screen ? new Background(this.size, this.picture).planes() : this.planes();
  }

  /** A frame of it, planes `[3, size, size]`. */
  planes(view?: View): Uint8Array {
    const { size, picture, screen } = this;
    const n = size * size;
    const side = Math.round(Math.sqrt(picture.length / 3));
    const margin = (side - size) / 2;
    if (!view && margin === 0 && !screen) return picture.slice();
    const out = new Uint8Array(3 * n);
    const back = view && invertAffine(view);
    for (let p = 0; p < n; p++) {
      const [x, y] = [p % size, Math.floor(p / size)];
      if (screen?.fixed[p] === 1) {
        for (let c = 0; c < 3; c++) out[c * n + p] = screen.picture[c * n + p];
      } else if (back) {
        const at = applyAffine(back, x, y);
        sample(picture, side, at[0] + margin, at[1] + margin, colour);
        for (let c = 0; c < 3; c++) out[c * n + p] = Math.min(255, Math.max(0, Math.round(colour[c])));
      } else {
        for (let c = 0; c < 3; c++) out[c * n + p] = picture[c * side * side + (y + margin) * side + x + margin];
      }
    }
    return out;
  }
}
