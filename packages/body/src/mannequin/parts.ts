/** The mannequin's surface, part by part, with the weights of the joints that move it. */
import { jointCount, jointIndex } from "../model/skeleton.ts";
import {
  bodyField,
  eyeCenter,
  eyeRadius,
  handField,
  handInfluences,
  headField,
  lidRest,
  mouthHalfWidth,
  mouthLine,
  trunkInfluences,
  type Influence,
} from "./anatomy.ts";
import { surfaceNets, type Mesh } from "./mesher.ts";
import type { Vec3 } from "./sdf.ts";

/** What a vertex belongs to: expressions treat the parts of the face apart. */
export type Region = "body" | "hand" | "head" | "upperLip" | "lowerLip" | "eye" | "upperLid" | "lowerLid";

export interface Surface extends Mesh {
  /** `[V, 55]` */
  weights: Float32Array[];
  regions: Region[];
}

export const emptySurface = (): Surface => ({ positions: [], faces: [], weights: [], regions: [] });

export function append(to: Surface, part: Surface): void {
  const base = to.positions.length / 3;
  to.positions = to.positions.concat(part.positions);
  to.faces = to.faces.concat(part.faces.map((i) => i + base));
  to.weights.push(...part.weights);
  to.regions.push(...part.regions);
}

const segmentDistance = (p: Vec3, { a, b, r }: Influence): number => {
  const [bx, by, bz] = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
  const [px, py, pz] = [p[0] - a[0], p[1] - a[1], p[2] - a[2]];
  const t = Math.min(1, Math.max(0, (px * bx + py * by + pz * bz) / (bx * bx + by * by + bz * bz || 1)));
  return Math.hypot(px - t * bx, py - t * by, pz - t * bz) - r;
};

/** Weights fall off with the distance by which a joint is farther than the nearest one. */
function weightsFrom(p: Vec3, influences: readonly Influence[], falloff: number): Float32Array {
  const distance = new Float32Array(jointCount).fill(Number.POSITIVE_INFINITY);
  for (const i of influences) distance[i.joint] = Math.min(distance[i.joint], Math.max(0, segmentDistance(p, i)));
  const nearest = distance.reduce((a, b) => Math.min(a, b));
  return normalised(distance.map((d) => Math.exp(-(((d - nearest) / falloff) ** 2))));
}

function normalised(w: Float32Array): Float32Array {
  const total = w.reduce((a, b) => a + b, 0);
  return w.map((x) => (x / total < 0.01 ? 0 : x / total));
}

/** Averages weights over neighbours, so that skin bends over a width and not at a line. */
function smooth(surface: Surface, rounds: number): void {
  const neighbours: Set<number>[] = surface.weights.map(() => new Set());
  for (let f = 0; f < surface.faces.length; f += 3) {
    for (let k = 0; k < 3; k++) {
      const [a, b] = [surface.faces[f + k], surface.faces[f + ((k + 1) % 3)]];
      neighbours[a].add(b);
      neighbours[b].add(a);
    }
  }
  for (let r = 0; r < rounds; r++) {
    surface.weights = surface.weights.map((w, v) => {
      const out = w.slice();
      for (const n of neighbours[v]) for (let j = 0; j < jointCount; j++) out[j] += surface.weights[n][j];
      const share = 1 / (neighbours[v].size + 1);
      return out.map((x) => x * share);
    });
  }
  surface.weights = surface.weights.map((w) => {
    const n = normalised(w);
    const total = n.reduce((a, b) => a + b, 0);
    return n.map((x) => x / total);
  });
}

const vertexAt = (m: Mesh, v: number): Vec3 => [m.positions[3 * v], m.positions[3 * v + 1], m.positions[3 * v + 2]];

const dressed = (mesh: Mesh, region: Region, weightsOf: (p: Vec3) => Float32Array): Surface => ({
  ...mesh,
  weights: Array.from({ length: mesh.positions.length / 3 }, (_, v) => weightsOf(vertexAt(mesh, v))),
  regions: Array.from({ length: mesh.positions.length / 3 }, () => region),
});

export function trunk(): Surface {
  const s = dressed(surfaceNets(bodyField, [-0.662, -1.34, -0.2], [0.662, 0.19, 0.2], 0.0188), "body", (p) =>
    weightsFrom(p, trunkInfluences, 0.045),
  );
  smooth(s, 3);
  return s;
}

export function hands(): Surface {
  const left = dressed(surfaceNets(handField, [0.638, 0.07, -0.12], [0.9, 0.15, 0.13], 0.0056), "hand", (p) =>
    weightsFrom(p, handInfluences, p[0] < 0.69 ? 0.02 : 0.005),
  );
  smooth(left, 2);
  const out = emptySurface();
  append(out, left);
  append(out, mirrored(left));
  return out;
}

/** A part of the left side on the right: joints change sides, faces their winding. */
function mirrored(s: Surface): Surface {
  const other = Array.from({ length: jointCount }, (_, j) => (j >= 40 ? j - 15 : j >= 25 ? j + 15 : j));
  for (const name of ["hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist", "eye"]) {
    const [l, r] = [jointIndex(`left_${name}`), jointIndex(`right_${name}`)];
    [other[l], other[r]] = [r, l];
  }
  return {
    positions: s.positions.map((x, i) => (i % 3 === 0 ? -x : x)),
    faces: s.faces.map((_, i) => s.faces[i - (i % 3) + [0, 2, 1][i % 3]]),
    weights: s.weights.map((w) => w.map((_, j) => w[other[j]])),
    regions: s.regions.slice(),
  };
}

const ramp = (x: number, from: number, to: number): number => {
  const t = Math.min(1, Math.max(0, (x - from) / (to - from)));
  return t * t * (3 - 2 * t);
};

/** Head with a mouth that opens: the faces across the line between the lips are taken out and their vertices drawn to it. */
export function head(): Surface {
  const mesh = surfaceNets(headField, [-0.095, 0.165, -0.125], [0.095, 0.47, 0.15], 0.0053);
  const inMouth = (p: Vec3) => p[2] > 0.07 && Math.abs(p[0]) < mouthHalfWidth && Math.abs(p[1] - mouthLine(p[0])) < 0.012;
  const n = mesh.positions.length / 3;
  const above = Array.from({ length: n }, (_, v) => vertexAt(mesh, v)[1] >= mouthLine(mesh.positions[3 * v]));
  const faces: number[] = [];
  const lip = new Set<number>();
  for (let f = 0; f < mesh.faces.length; f += 3) {
    const tri = mesh.faces.slice(f, f + 3);
    if (tri.every((v) => inMouth(vertexAt(mesh, v))) && tri.some((v) => above[v] !== above[tri[0]])) for (const v of tri) lip.add(v);
    else faces.push(...tri);
  }
  for (const v of lip) mesh.positions[3 * v + 1] = mouthLine(mesh.positions[3 * v]) + (above[v] ? 0.0002 : -0.0002);

  const jaw = jointIndex("jaw");
  const headJoint = jointIndex("head");
  const surface = dressed({ positions: mesh.positions, faces }, "head", (p) => {
    const w = new Float32Array(jointCount);
    // The jaw takes what lies below a line from its hinge to the corner of the mouth, the neck what lies below the chin.
    const line = 0.262 + ((0.2502 - 0.262) * (p[2] - 0.01)) / 0.075;
    let open = ramp(line - p[1], -0.008, 0.016) * ramp(p[2], -0.012, 0.03) * ramp(p[1], 0.188, 0.212);
    const mouth =
      ramp(mouthHalfWidth + 0.012 - Math.abs(p[0]), 0, 0.014) *
      ramp(p[2], 0.06, 0.075) *
      ramp(0.02 - Math.abs(p[1] - mouthLine(p[0])), 0, 0.01);
    open += mouth * ((p[1] < mouthLine(p[0]) ? 1 : 0) - open);
    const toNeck = ramp(0.222 - p[1] - 0.35 * (p[2] - 0.0), 0, 0.045);
    w[jaw] = open * (1 - toNeck);
    w[jointIndex("neck")] = toNeck;
    w[headJoint] = 1 - w[jaw] - toNeck;
    return w;
  });
  for (let v = 0; v < n; v++) {
    const p = vertexAt(surface, v);
    if (inMouth(p)) surface.regions[v] = above[v] ? "upperLip" : "lowerLip";
  }
  return surface;
}

/** Eyeballs with a slight cornea, and lids as shells over them, on both sides. */
export function eyes(): Surface {
  const left = emptySurface();
  const single = (joint: string) => {
    const w = new Float32Array(jointCount);
    w[jointIndex(joint)] = 1;
    return w;
  };
  const grid = (rows: number, columns: number, region: Region, joint: string, point: (u: number, v: number) => Vec3, wrap: boolean) => {
    const part = emptySurface();
    for (let r = 0; r <= rows; r++) {
      for (let c = 0; c < columns + (wrap ? 0 : 1); c++) {
        part.positions.push(...point(r / rows, c / columns));
        part.weights.push(single(joint));
        part.regions.push(region);
      }
    }
    const width = columns + (wrap ? 0 : 1);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const [a, b] = [r * width + c, r * width + ((c + 1) % width)];
        part.faces.push(a, b + width, b, a, a + width, b + width);
      }
    }
    append(left, part);
  };
  const [ex, ey, ez] = eyeCenter;
  grid(
    12,
    20,
    "eye",
    "left_eye",
    (u, v) => {
      // Around the z axis, the pupil at the pole.
      const [polar, turn] = [u * Math.PI, v * 2 * Math.PI];
      const r = eyeRadius + 0.0008 * Math.max(0, 1 - (polar / 0.45) ** 2);
      return [ex + r * Math.sin(polar) * Math.cos(turn), ey + r * Math.sin(polar) * Math.sin(turn), ez + r * Math.cos(polar)];
    },
    true,
  );
  const lid = (region: Region, from: number, to: number) =>
    grid(6, 14, region, "head", (u, v) => lidPoint(from + u * (to - from), -70 + 140 * v), false);
  lid("upperLid", lidRest.far, lidRest.upper);
  lid("lowerLid", lidRest.lower, -lidRest.far);
  const out = emptySurface();
  append(out, left);
  append(out, mirrored(left));
  return out;
}

/** A point of the left eye's lids: angle up from straight ahead and across, degrees. */
export function lidPoint(up: number, across: number): Vec3 {
  const [p, a] = [(up * Math.PI) / 180, (across * Math.PI) / 180];
  const r = eyeRadius * 1.09;
  return [eyeCenter[0] + r * Math.sin(a), eyeCenter[1] + r * Math.cos(a) * Math.sin(p), eyeCenter[2] + r * Math.cos(a) * Math.cos(p)];
}
