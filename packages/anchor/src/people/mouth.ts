/** The inside of the mannequin's mouth for pictures of people: its mesh has a slit between the lips, and nothing behind it. */
import { mannequin, mannequinSurface } from "@make-your-anchor/body";

/** How deep the hole is, metres. */
const depth = { edge: 0.002, middle: 0.012 } as const;

export interface Mouth {
  /** The mannequin's faces and those of the mouth behind them. */
  faces: Uint32Array;
  /** The first of the mouth's faces. */
  firstFace: number;
  /** Posed vertices with those of the mouth behind them. */
  withMouth(vertices: Float32Array): Float32Array;
  /** What lies at a point of one of its faces, by its corners' weights. */
  at(face: number, w0: number, w1: number, w2: number): "teeth" | "inside";
}

/** The slit's rim: vertices of the lips whose edges have a face on one side alone, in a row. */
function rim(faces: Uint32Array, lip: (vertex: number) => boolean): number[] {
  const edges = new Map<string, readonly [number, number]>();
  for (let i = 0; i < faces.length; i += 3) {
    for (const [a, b] of [
      [faces[i], faces[i + 1]],
      [faces[i + 1], faces[i + 2]],
      [faces[i + 2], faces[i]],
    ]) {
      if (!edges.delete(`${b},${a}`)) edges.set(`${a},${b}`, [a, b]);
    }
  }
  const next = new Map([...edges.values()].filter(([a, b]) => lip(a) && lip(b)));
  const [first] = next.keys();
  const out = [first];
  for (let v = next.get(first); v !== undefined && v !== first; v = next.get(v)) out.push(v);
  return out;
}

let made: Mouth | undefined;

/** The mannequin's; the same every time. */
export const mouth = (): Mouth => (made ??= makeMouth());

function makeMouth(): Mouth {
  const { faces, vTemplate } = mannequin();
  const { regions } = mannequinSurface();
  const ring = rim(faces, (v) => regions[v] === "upperLip" || regions[v] === "lowerLip");
  const first = regions.length;
  const middle = first + ring.length;
  const own = ring.flatMap((_, i) => [first + ((i + 1) % ring.length), first + i, middle]);
  const firstFace = faces.length / 3;
  // A place at the back of the head, which tells where inwards is.
  const away = (v: number) => Math.hypot(vTemplate[3 * v], vTemplate[3 * v + 1] - 0.27, vTemplate[3 * v + 2] + 0.09);
  const back = regions.reduce((best, region, v) => (region === "head" && away(v) < away(best) ? v : best), 0);
  /** 1 at the upper lip, −1 at the lower, 0 in the middle. */
  const height = (v: number) => (v === middle ? 0 : regions[ring[v - first]] === "upperLip" ? 1 : -1);
  return {
    faces: Uint32Array.from([...faces, ...own]),
    firstFace,
    withMouth(vertices) {
      const out = new Float32Array(3 * (middle + 1));
      out.set(vertices);
      const mean = [0, 1, 2].map((k) => ring.reduce((s, v) => s + vertices[3 * v + k], 0) / ring.length);
      const inwards = [0, 1, 2].map((k) => vertices[3 * back + k] - mean[k]);
      const n = Math.hypot(...inwards);
      for (let k = 0; k < 3; k++) {
        ring.forEach((v, i) => (out[3 * (first + i) + k] = vertices[3 * v + k] + (depth.edge * inwards[k]) / n));
        out[3 * middle + k] = mean[k] + (depth.middle * inwards[k]) / n;
      }
      return out;
    },
    at(face, w0, w1, w2) {
      const k = 3 * (face - firstFace);
      const up = w0 * height(own[k]) + w1 * height(own[k + 1]) + w2 * height(own[k + 2]);
      return up > 0.25 || up < -0.85 ? "teeth" : "inside";
    },
  };
}
