/**
 * Drafts: what a frame would look like if every place of the body always had the colour it had on average in the clip, before what else the clip
 * shows. A condition frame in surface colours says which place is seen; a table over those colours says what the clip showed there. That is crude
 * at folds, lips and hair, but right about much that the networks would else have to learn by heart, on any pose; they paint from it.
 */
import { existsSync } from "node:fs";
import { fromData, SafetensorsFile, saveSafetensors } from "@make-your-anchor/torch";
import type { RgbImage } from "@make-your-anchor/media";
import { fromPlanes, toPlanes } from "../dataset.ts";
import { Background, BackgroundSums, nearMesh, trust } from "./background.ts";
import type { View } from "./view.ts";
import { AnchorError } from "../errors.ts";

/** Steps of the table along red, green and blue: finer, and frames no longer agree on what a place looks like; coarser, and neighbours blur. */
const levels = 64;
/** The coarser tables behind it count for as much as so many pixels: places that were hardly seen take after their surroundings. */
const prior = 0.5;

/** Its file in a model's folder. */
export const draftFile = "draft.safetensors";

const nodesOf = (l: number) => (l + 1) ** 3;

/** The corners of the cell a colour lies in: places in a table of `l` steps, and their weights. */
function corners(l: number, r: number, g: number, b: number, at: Int32Array, weights: Float32Array): void {
  const s = l / 256;
  const [x, y, z] = [r * s, g * s, b * s];
  const [i, j, k] = [Math.floor(x), Math.floor(y), Math.floor(z)];
  const [u, v, w] = [x - i, y - j, z - k];
  const side = l + 1;
  for (let c = 0; c < 8; c++) {
    const [di, dj, dk] = [c & 1, (c >> 1) & 1, c >> 2];
    at[c] = ((i + di) * side + j + dj) * side + k + dk;
    weights[c] = (di ? u : 1 - u) * (dj ? v : 1 - v) * (dk ? w : 1 - w);
  }
}

const at = new Int32Array(8);
const weights = new Float32Array(8);

/** Sums of what frames showed, from which a `Draft` is made; sums of several add up. */
export class DraftSums {
  /** Side of the pictures, pixels. */
  readonly size: number;
  /** Red, green, blue times weight, and weight: of every node of the table. */
  private readonly colours = new Float32Array(4 * nodesOf(levels));
  private readonly background: BackgroundSums;

  constructor(size: number) {
    this.size = size;
    this.background = new BackgroundSums(size);
  }

  /**
   * @param picture planes `[3, size, size]`
   * @param condition the mesh in surface colours, likewise
   * @param shift pixels, right and down, by which the mesh is taken to lie elsewhere than it does
   */
  add(picture: Uint8Array, condition: Uint8Array, shift: readonly [number, number] = [0, 0]): void {
    const { size, colours, background } = this;
    const n = size * size;
    const near = nearMesh(condition, size);
    for (let y = 0; y < size; y++) {
      const meshY = Math.min(size - 1, Math.max(0, y - shift[1]));
      for (let x = 0; x < size; x++) {
        const p = y * size + x;
        const m = meshY * size + Math.min(size - 1, Math.max(0, x - shift[0]));
        const [r, g, b] = [condition[m], condition[n + m], condition[2 * n + m]];
        const seen = r + g + b > 0;
        if (!seen) {
          background.put(p, near[m] ? trust.near : trust.away, picture[p], picture[n + p], picture[2 * n + p]);
          continue;
        }
        corners(levels, r, g, b, at, weights);
        for (let k = 0; k < 8; k++) {
          const o = 4 * at[k];
          for (let c = 0; c < 3; c++) colours[o + c] += weights[k] * picture[c * n + p];
          colours[o + 3] += weights[k];
        }
      }
    }
  }

  /** Adds the sums of others. */
  join(other: DraftSums): this {
    for (let i = 0; i < this.colours.length; i++) this.colours[i] += other.colours[i];
    this.background.join(other.background);
    return this;
  }

  /** @param background what lies behind; default the mean of what was seen there */
  draft(background: Background = new Background(this.size, this.background.mean())): Draft {
    const means = resolve(this.colours, levels);
    const table = new Uint8Array(means.length);
    for (let i = 0; i < means.length; i++) table[i] = means[i] + 0.5; // Uint8Array.from is ten times slower
    return new Draft(table, background);
  }
}

/** Mean colours `[nodes, 3]` of sums `[nodes, 4]` on a table of `l` steps; where little was seen, those of a table half as fine shine through. */
function resolve(sums: Float32Array, l: number): Float32Array {
  const side = l + 1;
  const out = new Float32Array(3 * nodesOf(l));
  if (l === 1) {
    const total = [0, 1, 2, 3].map((c) => sums.reduce((s, v, i) => (i % 4 === c ? s + v : s), 0));
    for (let i = 0; i < out.length; i++) out[i] = total[3] > 0 ? total[i % 3] / total[3] : 127.5;
    return out;
  }
  const half = l / 2;
  const coarse = new Float32Array(4 * nodesOf(half));
  // A node has eight coarse ones around it; along an axis where it lies in the place of one, that one twice.
  const around = new Int32Array(8);
  const findAround = (i: number, j: number, k: number) => {
    for (let c = 0; c < 8; c++) {
      const [a, b, d] = [(i + (c & 1)) >> 1, (j + ((c >> 1) & 1)) >> 1, (k + (c >> 2)) >> 1];
      around[c] = (a * (half + 1) + b) * (half + 1) + d;
    }
  };
  for (let i = 0, node = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      for (let k = 0; k < side; k++, node++) {
        if (sums[4 * node + 3] <= 0) continue;
        findAround(i, j, k);
        for (let c = 0; c < 8; c++) for (let q = 0; q < 4; q++) coarse[4 * around[c] + q] += sums[4 * node + q] / 8;
      }
    }
  }
  const behind = resolve(coarse, half);
  for (let i = 0, node = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      for (let k = 0; k < side; k++, node++) {
        findAround(i, j, k);
        const weight = sums[4 * node + 3] + prior;
        for (let q = 0; q < 3; q++) {
          let colour = 0;
          for (let c = 0; c < 8; c++) colour += behind[3 * around[c] + q];
          out[3 * node + q] = (sums[4 * node + q] + (prior / 8) * colour) / weight;
        }
      }
    }
  }
  return out;
}

export class Draft {
  /** Of the nodes over surface colours, `[65, 65, 65, 3]` by red, green, blue. */
  private readonly table: Uint8Array;
  readonly background: Background;

  constructor(table: Uint8Array, background: Background) {
    this.table = table;
    this.background = background;
  }

  /** Side of the pictures, pixels. */
  get size(): number {
    return this.background.size;
  }

  /**
   * Of a condition's planes `[3, size, size]`, the same.
   * @param view how the camera sees the background; default unmoved
   */
  planes(condition: Uint8Array, view?: View): Uint8Array {
    const { size, table } = this;
    const n = size * size;
    const out = this.background.planes(view);
    for (let p = 0; p < n; p++) {
      const [r, g, b] = [condition[p], condition[n + p], condition[2 * n + p]];
      if (r + g + b === 0) continue;
      corners(levels, r, g, b, at, weights);
      for (let c = 0; c < 3; c++) {
        let v = 0;
        for (let k = 0; k < 8; k++) v += weights[k] * table[3 * at[k] + c];
        out[c * n + p] = Math.round(v);
      }
    }
    return out;
  }

  /** Of a condition picture of the draft's size, the same. */
  draw(condition: RgbImage, view?: View): RgbImage {
    return fromPlanes(this.planes(toPlanes(condition), view), this.size, this.size);
  }

  save(path: string): void {
    const side = levels + 1;
    const { picture, screen } = this.background;
    const wide = Math.round(Math.sqrt(picture.length / 3));
    using table = fromData(this.table, [side, side, side, 3]);
    using background = fromData(picture, [3, wide, wide]);
    using still = screen && fromData(screen.picture, [3, this.size, this.size]);
    using fixed = screen && fromData(screen.fixed, [this.size, this.size]);
    const tensors = { table, background, screen: still, fixed };
    saveSafetensors(path, new Map(Object.entries(tensors).flatMap(([name, t]) => (t ? [[name, t] as const] : []))), {
      size: String(this.size),
    });
  }

  /** @throws {AnchorError} `DRAFT` where it is missing or something else */
  static load(path: string): Draft {
    const again = "train the body again, or copy the file from where the weights came from";
    if (!existsSync(path))
      throw new AnchorError("DRAFT", `${path}: missing, but the body's UNet paints from drafts: ${again}`, { misuse: true });
    using file = new SafetensorsFile(path);
    const side = levels + 1;
    const read = (name: string) => {
      using t = file.read(name);
      return { name, shape: t.shape, dtype: t.dtype, data: Uint8Array.from(t.data() as Uint8Array) };
    };
    const expect = (t: ReturnType<typeof read>, shape: readonly number[]) => {
      if (t.dtype === "uint8" && t.shape.join() === shape.join()) return t.data;
      throw new AnchorError(
        "DRAFT",
        `${path}: expected uint8 ${t.name} [${shape.join(", ")}], got ${t.dtype} [${t.shape.join(", ")}]: ${again}`,
      );
    };
    const table = expect(read("table"), [side, side, side, 3]);
    const background = read("background");
    const wide = background.shape.at(-1) ?? 0;
    // One of a camera that stood still is as large as the frames, and older files say nothing more.
    const size = Number(file.metadata.size ?? wide);
    if (!Number.isInteger(size) || size < 1 || size > wide || (wide - size) % 2 !== 0)
      throw new AnchorError("DRAFT", `${path}: expected a background around frames of ${size}, got one of ${wide}: ${again}`);
    const screen = file.has("fixed")
      ? { picture: expect(read("screen"), [3, size, size]), fixed: expect(read("fixed"), [size, size]) }
      : undefined;
    return new Draft(table, new Background(size, expect(background, [3, wide, wide]), screen));
  }
}
