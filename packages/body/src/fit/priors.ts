/** What a body is likely to do: a resting pose, how far joints turn, and how much each is held back. */
import { jointIndex } from "../model/skeleton.ts";

type Axes = readonly [number, number, number];
export interface JointPrior {
  /** Resting rotation vector, rad. */
  rest: Axes;
  min: Axes;
  max: Axes;
  /** Pull towards rest. */
  pull: Axes;
}

const around = (size: number, pull: number, rest: Axes = [0, 0, 0]): JointPrior => ({
  rest,
  min: rest.map((x) => x - size) as unknown as Axes,
  max: rest.map((x) => x + size) as unknown as Axes,
  pull: [pull, pull, pull],
});

/** Left and middle joints of the body; the right side mirrors the y and z axes. */
const left: Record<string, JointPrior> = {
  spine1: around(0.5, 3),
  spine2: around(0.4, 3),
  spine3: around(0.4, 3),
  neck: around(0.6, 1.5),
  head: around(0.6, 1),
  left_collar: around(0.35, 4),
  left_shoulder: { rest: [0.1, -0.35, -1.05], min: [-1.2, -1.8, -1.6], max: [1.2, 0.9, 1.2], pull: [0.35, 0.15, 0.1] },
  left_elbow: { rest: [0, -1.3, 0], min: [-1.3, -2.5, -0.35], max: [1.3, 0.0, 0.35], pull: [0.15, 0.05, 1] },
  left_wrist: { rest: [0, 0, 0], min: [-1.1, -0.6, -1.2], max: [1.1, 0.6, 1.2], pull: [0.15, 0.4, 0.25] },
};

export interface PoseLimits {
  rest: Float32Array;
  min: Float32Array;
  max: Float32Array;
  pull: Float32Array;
  /** 1 where the angle is fitted, 0 where it stays at rest. */
  free: Float32Array;
}

const limits = (n: number): PoseLimits => ({
  rest: new Float32Array(n),
  min: new Float32Array(n),
  max: new Float32Array(n),
  pull: new Float32Array(n),
  free: new Float32Array(n),
});

/** For the 63 angles of the body; hips, knees and feet stay as they are: presenter clips end at the desk. */
export function bodyLimits(): PoseLimits {
  const out = limits(63);
  for (const [name, p] of Object.entries(left)) {
    for (const side of name.startsWith("left_") ? [1, -1] : [1]) {
      const at = (jointIndex(side > 0 ? name : name.replace("left_", "right_")) - 1) * 3;
      for (let k = 0; k < 3; k++) {
        const sign = k > 0 ? side : 1;
        out.rest[at + k] = sign * p.rest[k];
        out.min[at + k] = sign > 0 ? p.min[k] : -p.max[k];
        out.max[at + k] = sign > 0 ? p.max[k] : -p.min[k];
        out.pull[at + k] = p.pull[k];
        out.free[at + k] = 1;
      }
    }
  }
  return out;
}

/** For a hand's 45 angles about its mean pose: fingers bend about z, spread a little about y, hardly twist. */
export function handLimits(side: "left" | "right"): PoseLimits {
  const out = limits(45);
  const sign = side === "left" ? 1 : -1;
  for (let j = 0; j < 15; j++) {
    const [finger, phalanx] = [Math.floor(j / 3), j % 3];
    const thumb = finger === 4;
    const range: readonly (readonly [number, number])[] = thumb
      ? [
          [-0.7, 0.7],
          [-0.9, 0.9],
          [-0.6, 0.6],
        ]
      : phalanx === 0
        ? [
            [-0.12, 0.12],
            [-0.35, 0.35],
            [-1.3, 0.5],
          ]
        : [
            [-0.05, 0.05],
            [-0.05, 0.05],
            [-1.4, 0.25],
          ];
    range.forEach(([min, max], k) => {
      const i = j * 3 + k;
      const s = k > 0 ? sign : 1;
      out.min[i] = s > 0 ? min : -max;
      out.max[i] = s > 0 ? max : -min;
      out.pull[i] = k === 2 && !thumb ? 0.25 : 1;
      out.free[i] = 1;
    });
  }
  return out;
}
