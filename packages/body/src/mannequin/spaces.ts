/** The mannequin's shape and expression spaces: linear displacement fields over its vertices. */
import { jointCount, jointIndex, jointNames, parents } from "../model/skeleton.ts";
import { eyeCenter, jointPositions, lidRest, mouthHalfWidth, mouthLine } from "./anatomy.ts";
import { lidPoint, type Surface } from "./parts.ts";
import type { Vec3 } from "./sdf.ts";

/** What one unit of each coefficient does. */
export const shapeNames = [
  "stature +4 %",
  "girth +10 %",
  "shoulder width +10 %",
  "arm length +6 %",
  "leg length +6 %",
  "torso length +6 %",
  "neck length +20 %",
  "head size +6 %",
  "hand size +6 %",
  "face width +6 %",
] as const;
export const expressionNames = [
  "blink left",
  "blink right",
  "brows raised",
  "brows together",
  "smile",
  "corners down",
  "pucker",
  "lips apart",
  "mouth wide",
  "cheeks blown",
] as const;

const limb = (name: string): string => name.replace(/^(left|right)_/, "");
const isFinger = (j: number) => j >= 25;

/** Lengthening along the bone and across it, for a joint and a shape coefficient. */
function stretch(coefficient: number, j: number): { along: number; across: number } {
  const name = limb(jointNames[j]);
  const no = { along: 0, across: 0 };
  const headPart = ["head", "jaw", "eye"].includes(name);
  switch (coefficient) {
    case 0:
      return { along: 0.04, across: 0.04 };
    case 1:
      return headPart || isFinger(j) ? no : { along: 0, across: 0.1 };
    case 2:
      return name === "collar" ? { along: 0.1, across: 0 } : no;
    case 3:
      return name === "shoulder" || name === "elbow" ? { along: 0.06, across: 0 } : no;
    case 4:
      return name === "hip" || name === "knee" ? { along: 0.06, across: 0 } : no;
    case 5:
      return ["pelvis", "spine1", "spine2", "spine3"].includes(name) ? { along: 0.06, across: 0 } : no;
    case 6:
      return name === "neck" ? { along: 0.2, across: 0 } : no;
    case 7:
      return headPart ? { along: 0.06, across: 0.06 } : no;
    case 8:
      return name === "wrist" || isFinger(j) ? { along: 0.06, across: 0.06 } : no;
    default:
      return no;
  }
}

/** Where a joint's bone points: at its main child. */
function boneDirection(j: number): Vec3 {
  const main: Record<string, string> = {
    pelvis: "spine1",
    spine3: "neck",
    neck: "head",
    left_collar: "left_shoulder",
    right_collar: "right_shoulder",
    left_wrist: "left_middle1",
    right_wrist: "right_middle1",
  };
  const child = main[jointNames[j]] ? jointIndex(main[jointNames[j]]) : parents.indexOf(j);
  const d: Vec3 = child > 0 ? ([0, 1, 2].map((k) => jointPositions[child][k] - jointPositions[j][k]) as unknown as Vec3) : [0, 1, 0];
  const n = Math.hypot(...d);
  return [d[0] / n, d[1] / n, d[2] / n];
}

/**
 * Displacements of vertices and joints for one unit of a shape coefficient. A vertex moves with the stretched bones that its
 * weights name, so the surface keeps to the skeleton.
 */
export function shapeDisplacement(surface: Surface, coefficient: number): { vertices: Float32Array; joints: Float32Array } {
  const stretched = (j: number, p: readonly number[]): Vec3 => {
    const { along, across } = stretch(coefficient, j);
    const d = boneDirection(j);
    const dot = p[0] * d[0] + p[1] * d[1] + p[2] * d[2];
    return [0, 1, 2].map((k) => across * p[k] + (along - across) * dot * d[k]) as unknown as Vec3;
  };
  const joints = new Float32Array(jointCount * 3);
  for (let j = 1; j < jointCount; j++) {
    const p = parents[j];
    const offset = [0, 1, 2].map((k) => jointPositions[j][k] - jointPositions[p][k]);
    const s = stretched(p, offset);
    for (let k = 0; k < 3; k++) joints[3 * j + k] = joints[3 * p + k] + s[k];
  }
  const n = surface.weights.length;
  const vertices = new Float32Array(n * 3);
  for (let v = 0; v < n; v++) {
    const p = [0, 1, 2].map((k) => surface.positions[3 * v + k]);
    surface.weights[v].forEach((w, j) => {
      if (w === 0) return;
      const s = stretched(
        j,
        p.map((x, k) => x - jointPositions[j][k]),
      );
      for (let k = 0; k < 3; k++) vertices[3 * v + k] += w * (joints[3 * j + k] + s[k]);
    });
    if (coefficient === 9 && surface.regions[v] !== "body" && surface.regions[v] !== "hand" && p[1] > 0.2)
      vertices[3 * v] += 0.06 * p[0] * Math.min(1, Math.max(0, (p[1] - 0.2) / 0.02));
  }
  if (coefficient === 9) for (const eye of [23, 24]) joints[3 * eye] += 0.06 * jointPositions[eye][0];
  return { vertices, joints };
}

const bump = (p: Vec3, c: Vec3, size: Vec3): number =>
  Math.exp(-(((p[0] - c[0]) / size[0]) ** 2 + ((p[1] - c[1]) / size[1]) ** 2 + ((p[2] - c[2]) / size[2]) ** 2));

/** Displacement of the vertices, `[V, 3]` metres, for one unit of an expression coefficient. */
export function expressionDisplacement(surface: Surface, coefficient: number): Float32Array {
  const n = surface.weights.length;
  const out = new Float32Array(n * 3);
  for (let v = 0; v < n; v++) {
    const region = surface.regions[v];
    if (region === "body" || region === "hand" || region === "eye") continue;
    const p: Vec3 = [surface.positions[3 * v], surface.positions[3 * v + 1], surface.positions[3 * v + 2]];
    if (p[2] < 0.02 || p[1] < 0.19) continue;
    const side = Math.sign(p[0]);
    const q: Vec3 = [Math.abs(p[0]), p[1], p[2]];
    const d = [0, 0, 0];
    const add = (x: number, y: number, z: number, w = 1) => {
      d[0] += x * w;
      d[1] += y * w;
      d[2] += z * w;
    };
    const corner = bump(q, [mouthHalfWidth, mouthLine(mouthHalfWidth), 0.085], [0.013, 0.013, 0.03]);
    const lips = bump(q, [0, mouthLine(0), 0.098], [0.022, 0.012, 0.03]);
    const upper = region === "upperLip" || (region === "head" && p[1] > mouthLine(p[0]));
    if (region === "upperLid" || region === "lowerLid") {
      if ((coefficient === 0 && p[0] > 0) || (coefficient === 1 && p[0] < 0)) {
        // The upper lid's edge turns down to meet the lower one, which rises a little.
        const e: Vec3 = [q[0] - eyeCenter[0], q[1] - eyeCenter[1], q[2] - eyeCenter[2]];
        const up = (Math.atan2(e[1], e[2]) * 180) / Math.PI;
        const across = (Math.asin(Math.max(-1, Math.min(1, e[0] / Math.hypot(...e)))) * 180) / Math.PI;
        const meet = lidRest.lower + 5;
        const to =
          region === "upperLid"
            ? up + ((meet - lidRest.upper) * (lidRest.far - up)) / (lidRest.far - lidRest.upper)
            : up + (5 * (up + lidRest.far)) / (lidRest.lower + lidRest.far);
        const target = lidPoint(to, across);
        add(side * (target[0] - q[0]), target[1] - q[1], target[2] - q[2]);
      }
    } else {
      switch (coefficient) {
        case 2:
          add(0, 0.009, -0.001, bump(q, [0.03, 0.356, 0.088], [0.024, 0.012, 0.03]));
          break;
        case 3:
          add(-side * 0.005, -0.004, 0.001, bump(q, [0.018, 0.355, 0.096], [0.016, 0.01, 0.03]));
          break;
        case 4:
          add(side * 0.009, 0.008, -0.006, corner);
          add(side * 0.003, 0.004, 0.003, bump(q, [0.042, 0.285, 0.07], [0.016, 0.016, 0.03]));
          break;
        case 5:
          add(0, -0.008, 0, corner);
          break;
        case 6:
          add(-side * 0.009, 0, 0.004, corner);
          add(0, 0, 0.008, lips);
          break;
        case 7:
          add(0, upper ? 0.005 : -0.006, 0, lips);
          break;
        case 8:
          add(side * 0.008, 0, -0.004, corner);
          break;
        case 9:
          add(side * 0.01, 0, 0.006, bump(q, [0.04, 0.258, 0.065], [0.02, 0.02, 0.03]));
          break;
      }
    }
    for (let k = 0; k < 3; k++) out[3 * v + k] = d[k];
  }
  return out;
}
