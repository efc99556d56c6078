/**
 * Colours that say which place of the body's surface is seen: a network need not guess from grey relief whether it looks at a hand or at the
 * chest behind it. Not the original's; beside it (`shading.ts`) for models that are trained with it.
 */
import type { BodyModelData } from "../model/body-model.ts";
import { jointCount } from "../model/skeleton.ts";
import type { Shader } from "./rasterise.ts";

/** Joints of the SMPL-X skeleton whose vertices get a colour space of their own; the rest is trunk and limbs. */
const headJoints = [15, 22, 23, 24];
const firstLeft = 25;
const firstRight = 40;
const wrists = [20, 21];

type Region = "body" | "head" | "left" | "right";

function regionOf(joint: number): Region {
  if (headJoints.includes(joint)) return "head";
  if (joint === wrists[0] || (joint >= firstLeft && joint < firstRight)) return "left";
  if (joint === wrists[1] || joint >= firstRight) return "right";
  return "body";
}

/** −1..1, steep around 0: half way at `scale` metres. */
const squash = (x: number, scale: number): number => x / (Math.abs(x) + scale);

/**
 * Of every vertex, from its place on the template: `[V, 3]`, 0.1..1. Head and hands span a range of their own, so that an eye and a finger
 * are told apart as well as two shoulders; ranges of different regions do not meet.
 */
export function surfaceColours(data: BodyModelData): Float32Array {
  const { vTemplate: v, weights } = data;
  const n = v.length / 3;
  const regions = Array.from({ length: n }, (_, i): Region => {
    let best = 0;
    for (let j = 1; j < jointCount; j++) if (weights[i * jointCount + j] > weights[i * jointCount + best]) best = j;
    return regionOf(best);
  });
  const bounds = new Map<Region, { low: number[]; high: number[] }>();
  regions.forEach((r, i) => {
    const b = bounds.get(r) ?? { low: [Infinity, Infinity, Infinity], high: [-Infinity, -Infinity, -Infinity] };
    for (let c = 0; c < 3; c++) {
      b.low[c] = Math.min(b.low[c], v[3 * i + c]);
      b.high[c] = Math.max(b.high[c], v[3 * i + c]);
    }
    bounds.set(r, b);
  });
  const neck = bounds.get("head")?.low[1] ?? 0;
  const out = new Float32Array(v.length);
  regions.forEach((region, i) => {
    const [x, y, z] = [v[3 * i], v[3 * i + 1], v[3 * i + 2]];
    const b = bounds.get(region)!;
    const [ux, uy, uz] = [x, y, z].map((value, c) => (value - b.low[c]) / (b.high[c] - b.low[c] || 1));
    if (region === "body")
      out.set([0.275 + 0.175 * squash(x, 0.2), 0.55 + 0.45 * squash(y - neck + 0.25, 0.25), 0.55 + 0.45 * squash(z, 0.1)], 3 * i);
    else if (region === "head") out.set([0.55 + 0.45 * ux, 0.1 + 0.9 * uy, 0.6 + 0.4 * uz], 3 * i);
    // Arms reach sideways on the template: along a hand is x, from thumb to little finger z, from back to palm y.
    else if (region === "left") out.set([0.55 + 0.45 * uz, 0.1 + 0.9 * ux, 0.1 + 0.15 * uy], 3 * i);
    else out.set([0.55 + 0.45 * uz, 1 - 0.9 * ux, 0.35 + 0.15 * uy], 3 * i);
  });
  return out;
}

/** Draws `surfaceColours`, a quarter darker where the surface turns away, so that relief is still seen. */
export function surfaceShader(data: BodyModelData): Shader {
  const colours = surfaceColours(data);
  const { faces } = data;
  return (out, face, w0, w1, w2, nx, ny, nz, vx, vy, vz) => {
    const [a, b, c] = [3 * faces[3 * face], 3 * faces[3 * face + 1], 3 * faces[3 * face + 2]];
    const light = 0.75 + 0.25 * Math.max(0, nx * vx + ny * vy + nz * vz);
    // The renderer takes linear colours.
    for (let k = 0; k < 3; k++) out[k] = (light * (w0 * colours[a + k] + w1 * colours[b + k] + w2 * colours[c + k])) ** 2.2;
  };
}
