/** One motion: a body's parameters frame by frame, at a frame rate, with the camera that saw it where one did. */
import { BodyError } from "../errors.ts";

/** Pinhole camera of a motion, as the rasteriser takes it. */
export interface MotionCamera {
  width: number;
  height: number;
  focal: number;
  cx: number;
  cy: number;
  transl: readonly [number, number, number];
}

/** Angles are axis-angle vectors in radians, lengths metres, arrays `[frames, width]` row-major. */
export interface Motion {
  frames: number;
  fps: number;
  /** Frame of the camera: x right, y down, z away. An upright body has a global orientation near (π, 0, 0). */
  transl: Float32Array; // [F, 3]
  globalOrient: Float32Array; // [F, 3]
  bodyPose: Float32Array; // [F, 63]
  jawPose: Float32Array; // [F, 3]
  leyePose: Float32Array; // [F, 3]
  reyePose: Float32Array; // [F, 3]
  leftHandPose: Float32Array; // [F, 45]
  rightHandPose: Float32Array; // [F, 45]
  /** Hands are given about the body model's mean hand (true), or in full (false). */
  handsAboutMean: boolean;
  expression: Float32Array; // [F, expressionWidth]
  expressionWidth: number;
  betas: Float32Array;
  /** Whose shape and expression spaces the coefficients belong to: the mannequin's, SMPL-X's, or none. */
  space: "mannequin" | "smplx";
  camera?: MotionCamera;
  /**
   * How the camera that saw this moved, `[F, 6]`: of each frame the rows of an affine map from where what lies behind the body is on average to
   * where it is in the frame, both in shares of the picture's side from its upper left corner.
   */
  views?: Float32Array;
}

export const motionWidths = {
  transl: 3,
  globalOrient: 3,
  bodyPose: 63,
  jawPose: 3,
  leyePose: 3,
  reyePose: 3,
  leftHandPose: 45,
  rightHandPose: 45,
} as const;
export type MotionField = keyof typeof motionWidths;
export const motionFields = Object.keys(motionWidths) as MotionField[];

/** A motion at rest: every value 0. */
export function emptyMotion(frames: number, fps: number, expressionWidth = 0, betas = 0): Motion {
  const zeros = Object.fromEntries(motionFields.map((f) => [f, new Float32Array(frames * motionWidths[f])])) as Record<
    MotionField,
    Float32Array
  >;
  return {
    frames,
    fps,
    ...zeros,
    handsAboutMean: true,
    expression: new Float32Array(frames * expressionWidth),
    expressionWidth,
    betas: new Float32Array(betas),
    space: "mannequin",
  };
}

/** Frames `from` … `to − 1`. */
export function sliceMotion(m: Motion, from: number, to: number): Motion {
  const cut = (a: Float32Array, width: number) => a.slice(from * width, to * width);
  const fields = Object.fromEntries(motionFields.map((f) => [f, cut(m[f], motionWidths[f])])) as Record<MotionField, Float32Array>;
  return {
    ...m,
    ...fields,
    expression: cut(m.expression, m.expressionWidth),
    views: m.views && cut(m.views, 6),
    frames: Math.max(0, to - from),
  };
}

/** @throws {BodyError} `MOTION` when sizes disagree or a value is not finite */
export function checkMotion(m: Motion, name: string): Motion {
  const fail = (why: string): never => {
    throw new BodyError("MOTION", `${name}: ${why}`);
  };
  if (m.frames < 1) fail("the motion has no frames");
  if (!(m.fps > 0 && m.fps <= 1000)) fail(`${m.fps} frames a second is no frame rate`);
  const arrays: [string, Float32Array, number][] = [
    ...motionFields.map((f) => [f, m[f], motionWidths[f]] as [string, Float32Array, number]),
    ["expression", m.expression, m.expressionWidth],
    ...(m.views ? [["views", m.views, 6] as [string, Float32Array, number]] : []),
  ];
  for (const [field, data, width] of arrays) {
    if (data.length !== m.frames * width)
      fail(`${field} holds ${data.length} values, ${m.frames} frames of ${width} need ${m.frames * width}`);
    for (let i = 0; i < data.length; i++) {
      if (Number.isFinite(data[i])) continue;
      fail(
        `${field} of frame ${Math.floor(i / width)} (counted from 0) is ${data[i]}: motions must hold finite numbers. Repair or cut that frame`,
      );
    }
  }
  return m;
}

/**
 * The motion at another frame rate, by linear interpolation of rotation vectors between frames (neighbouring frames' rotations are
 * close; a vector that jumped to its 2π twin is brought back first).
 */
export function resampleMotion(m: Motion, fps: number): Motion {
  if (Math.abs(m.fps - fps) < 1e-6 || m.frames === 1) return { ...m, fps };
  const frames = Math.max(1, Math.round((m.frames * fps) / m.fps));
  const resample = (a: Float32Array, width: number, angles: boolean) => {
    const out = new Float32Array(frames * width);
    for (let f = 0; f < frames; f++) {
      const t = Math.min(m.frames - 1, (f * m.fps) / fps);
      const i = Math.min(m.frames - 2, Math.floor(t));
      const w = t - i;
      for (let k = 0; k < width; k += angles ? 3 : 1) {
        const [p, q] = [i * width + k, (i + 1) * width + k];
        if (!angles) {
          out[f * width + k] = a[p] * (1 - w) + a[q] * w;
          continue;
        }
        const next = nearestTwin([a[q], a[q + 1], a[q + 2]], [a[p], a[p + 1], a[p + 2]]);
        for (let c = 0; c < 3; c++) out[f * width + k + c] = a[p + c] * (1 - w) + next[c] * w;
      }
    }
    return out;
  };
  const fields = Object.fromEntries(motionFields.map((f) => [f, resample(m[f], motionWidths[f], f !== "transl")])) as Record<
    MotionField,
    Float32Array
  >;
  return {
    ...m,
    ...fields,
    expression: resample(m.expression, m.expressionWidth, false),
    views: m.views && resample(m.views, 6, false),
    frames,
    fps,
  };
}

/** The vector of the same rotation (angle ± 2π) that lies nearest to `to`. */
function nearestTwin(v: number[], to: number[]): number[] {
  const angle = Math.hypot(...v);
  if (angle < 1e-6) return v;
  const twin = v.map((x) => (x * (angle - 2 * Math.PI)) / angle);
  const d = (a: number[]) => a.reduce((s, x, i) => s + (x - to[i]) ** 2, 0);
  return d(twin) < d(v) ? twin : v;
}
