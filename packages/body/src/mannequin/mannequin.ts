/**
 * Our own body in the SMPL-X layout: the same 55 joints and parents, hands with fingers, a face whose jaw, lips and lids move, ten
 * shape and ten expression coefficients (their meaning: `shapeNames`, `expressionNames`). Made by code from the numbers in
 * anatomy.ts; free for any use, under the project's licence.
 */
import type { BodyModelData } from "../model/body-model.ts";
import { jointCount, parents, pickedNames, type VertexIds } from "../model/skeleton.ts";
import { jointPositions, landmarkPoints, pickedPoints } from "./anatomy.ts";
import { append, emptySurface, eyes, hands, head, trunk, type Surface } from "./parts.ts";
import { expressionDisplacement, expressionNames, shapeDisplacement, shapeNames } from "./spaces.ts";
import { mirrorVec, type Vec3 } from "./sdf.ts";

let made: { data: BodyModelData; surface: Surface } | undefined;

/** The mannequin's data; made once a process (about two seconds). */
export const mannequin = (): BodyModelData => (made ??= build()).data;
/** The surface it was made from: regions of the mesh, for dressing it. */
export const mannequinSurface = (): Surface => (made ??= build()).surface;

function build(): { data: BodyModelData; surface: Surface } {
  const surface = emptySurface();
  for (const part of [trunk(), hands(), head(), eyes()]) append(surface, part);
  const n = surface.weights.length;
  const vTemplate = Float32Array.from(surface.positions);
  const faces = Uint32Array.from(surface.faces);
  const coefficients = shapeNames.length + expressionNames.length;
  const shapedirs = new Float32Array(n * 3 * coefficients);
  const jointMoves: Float32Array[] = [];
  for (let k = 0; k < coefficients; k++) {
    const shape = k < shapeNames.length ? shapeDisplacement(surface, k) : undefined;
    const moves = shape ? shape.vertices : expressionDisplacement(surface, k - shapeNames.length);
    if (shape) jointMoves.push(shape.joints);
    for (let i = 0; i < n * 3; i++) shapedirs[i * coefficients + k] = moves[i];
  }
  const weights = new Float32Array(n * jointCount);
  surface.weights.forEach((w, v) => weights.set(w, v * jointCount));
  const lmk = landmarkPoints.map((p) => nearestOnSurface(surface, vTemplate, faces, p));
  const vertexIds = Object.fromEntries(
    pickedNames.map((name) => {
      const right = /^(r|R)/.test(name);
      const left = name.replace(/^R/, "L").replace(/^r(?=eye|ear|thumb|index|middle|ring|pinky)/, "l");
      const p = pickedPoints[right ? left : name];
      return [name, nearestVertex(vTemplate, right ? mirrorVec(p) : p)];
    }),
  ) as unknown as VertexIds;
  const unit = new Float32Array(45 * 45);
  for (let i = 0; i < 45; i++) unit[i * 46] = 1;
  const data: BodyModelData = {
    name: "mannequin",
    vTemplate,
    shapedirs,
    shapeCount: shapeNames.length,
    expressionCount: expressionNames.length,
    posedirs: null,
    jRegressor: regressor(vTemplate, shapedirs, coefficients, jointMoves),
    parents,
    weights,
    faces,
    handsComponentsL: unit,
    handsComponentsR: unit,
    handsMeanL: relaxedHand(1),
    handsMeanR: relaxedHand(-1),
    lmkFaces: Uint32Array.from(lmk.map((l) => l.face)),
    lmkBary: Float32Array.from(lmk.flatMap((l) => l.weights)),
    dynamicLmkFaces: null,
    dynamicLmkBary: null,
    vertexIds,
  };
  return { data, surface };
}

/** A hand at rest: fingers bent a little, about the z axis of the T-pose. `[45]` rad. */
function relaxedHand(side: number): Float32Array {
  const bend = { index: [0.2, 0.3, 0.2], middle: [0.25, 0.35, 0.2], pinky: [0.3, 0.35, 0.2], ring: [0.28, 0.35, 0.2] };
  const out = new Float32Array(45);
  ["index", "middle", "pinky", "ring"].forEach((finger, f) => {
    bend[finger as keyof typeof bend].forEach((angle, i) => (out[f * 9 + i * 3 + 2] = -side * angle));
  });
  out.set([0, -0.1 * side, -0.1 * side], 36);
  return out;
}

function nearestVertex(positions: Float32Array, p: Vec3): number {
  let best = 0;
  let distance = Number.POSITIVE_INFINITY;
  for (let v = 0; v < positions.length / 3; v++) {
    const d = (positions[3 * v] - p[0]) ** 2 + (positions[3 * v + 1] - p[1]) ** 2 + (positions[3 * v + 2] - p[2]) ** 2;
    if (d < distance) [best, distance] = [v, d];
  }
  return best;
}

/** The face and barycentric weights under a landmark: the frontmost one along z. */
function nearestOnSurface(
  surface: Surface,
  positions: Float32Array,
  faces: Uint32Array,
  p: Vec3,
): { face: number; weights: [number, number, number] } {
  let best = { face: 0, weights: [1, 0, 0] as [number, number, number], score: Number.POSITIVE_INFINITY };
  for (let f = 0; f < faces.length / 3; f++) {
    const [a, b, c] = [faces[3 * f], faces[3 * f + 1], faces[3 * f + 2]];
    if (surface.regions[a] === "body" || surface.regions[a] === "hand" || surface.regions[a] === "eye") continue;
    const x = (v: number, k: number) => positions[3 * v + k];
    const area = (x(b, 0) - x(a, 0)) * (x(c, 1) - x(a, 1)) - (x(b, 1) - x(a, 1)) * (x(c, 0) - x(a, 0));
    if (area <= 1e-12) continue; // faces away
    const w1 = ((p[0] - x(a, 0)) * (x(c, 1) - x(a, 1)) - (p[1] - x(a, 1)) * (x(c, 0) - x(a, 0))) / area;
    const w2 = ((x(b, 0) - x(a, 0)) * (p[1] - x(a, 1)) - (x(b, 1) - x(a, 1)) * (p[0] - x(a, 0))) / area;
    const raw = [1 - w1 - w2, w1, w2].map((w) => Math.min(1, Math.max(0, w)));
    const total = raw[0] + raw[1] + raw[2];
    const w = raw.map((r) => r / total) as [number, number, number];
    const at = [0, 1, 2].map((k) => w[0] * x(a, k) + w[1] * x(b, k) + w[2] * x(c, k));
    const score = Math.hypot(at[0] - p[0], at[1] - p[1]) + (at[2] < 0 ? 1 : 0) - 0.02 * at[2];
    if (score < best.score) best = { face: f, weights: w, score };
  }
  return best;
}

/**
 * `[J, V]` weights that give each joint from the vertices around it, of the template and of every shape: the smallest weights that
 * meet those conditions (a least-norm solution, lightly damped).
 */
function regressor(positions: Float32Array, shapedirs: Float32Array, coefficients: number, moves: readonly Float32Array[]): Float32Array {
  const n = positions.length / 3;
  const out = new Float32Array(jointCount * n);
  const conditions = 1 + 3 + 3 * moves.length;
  for (let j = 0; j < jointCount; j++) {
    const c = jointPositions[j];
    const order = Array.from(
      { length: n },
      (_, v) => [(positions[3 * v] - c[0]) ** 2 + (positions[3 * v + 1] - c[1]) ** 2 + (positions[3 * v + 2] - c[2]) ** 2, v] as const,
    );
    order.sort((a, b) => a[0] - b[0]);
    const near = order.slice(0, 160).map(([, v]) => v);
    // Rows of conditions, in units that make them alike: metres for places relative to the joint.
    const rows: Float64Array[] = [];
    const target = new Float64Array(conditions);
    rows.push(Float64Array.from(near, () => 0.1));
    target[0] = 0.1;
    for (let k = 0; k < 3; k++) rows.push(Float64Array.from(near, (v) => positions[3 * v + k] - c[k]));
    moves.forEach((m, s) => {
      for (let k = 0; k < 3; k++) {
        rows.push(Float64Array.from(near, (v) => shapedirs[(3 * v + k) * coefficients + s]));
        target[4 + 3 * s + k] = m[3 * j + k];
      }
    });
    // Sum and place must hold; the shapes' conditions nearly repeat each other and may give a little.
    const damping = (p: number) => (p < 4 ? 1e-8 : 3e-6);
    const gram = rows.map((a, p) => [
      ...rows.map((b, q) => a.reduce((sum, x, i) => sum + x * b[i], 0) + (p === q ? damping(p) : 0)),
      target[p],
    ]);
    const y = solve(gram);
    near.forEach((v, i) => (out[j * n + v] = rows.reduce((sum, r, p) => sum + r[i] * y[p], 0)));
    const total = near.reduce((sum, v) => sum + out[j * n + v], 0);
    for (const v of near) out[j * n + v] /= total;
  }
  return out;
}

/** Elimination with pivoting of an augmented square system. */
function solve(m: number[][]): number[] {
  const n = m.length;
  for (let c = 0; c < n; c++) {
    let p = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(m[r][c]) > Math.abs(m[p][c])) p = r;
    [m[c], m[p]] = [m[p], m[c]];
    for (let r = c + 1; r < n; r++) {
      const f = m[r][c] / m[c][c];
      if (f !== 0) for (let k = c; k <= n; k++) m[r][k] -= f * m[c][k];
    }
  }
  const x = new Array<number>(n).fill(0);
  for (let r = n - 1; r >= 0; r--) {
    let s = m[r][n];
    for (let k = r + 1; k < n; k++) s -= m[r][k] * x[k];
    x[r] = s / m[r][r];
  }
  return x;
}
