/** How near a fitted motion comes to the landmarks it was fitted to. */
import { fromData, noGrad, scope } from "@make-your-anchor/torch";
import { BodyModel, type BodyModelData } from "../model/body-model.ts";
import { motionFields, motionWidths, type Motion } from "../motion/motion.ts";
import { modelPoints, surely, type FrameLandmarks, type PointGroup } from "./landmarks.ts";

export interface FitReport {
  /** Distance of projected from detected points, pixels at 512², over points that were found. */
  body: ErrorSummary;
  hands: ErrorSummary;
  face: ErrorSummary;
  /** Frames in which nothing of the group was found; they are bridged. */
  bridged: { body: number; leftHand: number; rightHand: number; face: number };
}
export interface ErrorSummary {
  median: number;
  p95: number;
}

/** Frames that are posed at once. */
const atOnce = 256;

/**
 * @param m      what `fitMotion` gave
 * @param frames what it was fitted to, in the pixels of the motion's camera
 */
export function fitReport(data: BodyModelData, m: Motion, frames: Iterable<FrameLandmarks>): FitReport {
  const { width, height, focal, cx, cy, transl } = m.camera!;
  const unit = 512 / Math.max(width, height);
  const errors: Record<PointGroup, number[]> = { body: [], hands: [], face: [], eyes: [] };
  const bridged = { body: 0, leftHand: 0, rightHand: 0, face: 0 };
  using model = new BodyModel(data, { numBetas: m.betas.length, numExpressionCoeffs: m.expressionWidth }, BodyModel.landmarkVertices(data));
  const jointsOf = (from: number, count: number): Float32Array =>
    scope(() =>
      noGrad(() => {
        const rows = (a: Float32Array, width: number) => fromData(a.slice(from * width, (from + count) * width), [count, width]);
        const fields = Object.fromEntries(motionFields.map((f) => [f, rows(m[f], motionWidths[f])] as const));
        return model
          .forward({
            ...(fields as Record<(typeof motionFields)[number], ReturnType<typeof rows>>),
            betas: fromData(m.betas, [1, m.betas.length]),
            expression: rows(m.expression, m.expressionWidth),
          })
          .joints.floats();
      }),
    );
  let joints: Float32Array = new Float32Array(0);
  let stride = 0; // values of a frame
  let f = 0;
  for (const frame of frames) {
    if (f % atOnce === 0) {
      const count = Math.min(atOnce, m.frames - f);
      joints = jointsOf(f, count);
      stride = joints.length / count;
    }
    for (const { joint, group, weight, pick } of modelPoints) {
      const seen = pick(frame);
      // What detectors only guess (ears, rough wrists, hips) is no measure of the fit.
      if (!seen || !(seen.score > surely) || weight < 0.5) continue;
      const at = (f % atOnce) * stride + 3 * joint;
      const [x, y, z] = [0, 1, 2].map((k) => joints[at + k] + transl[k]);
      errors[group].push(Math.hypot((focal * x) / z + cx - seen.x, (focal * y) / z + cy - seen.y) * unit);
    }
    if (!frame.body.some(Boolean)) bridged.body++;
    if (!frame.leftHand) bridged.leftHand++;
    if (!frame.rightHand) bridged.rightHand++;
    if (!frame.face) bridged.face++;
    f++;
  }
  const summary = (list: number[]): ErrorSummary => {
    list.sort((a, b) => a - b);
    const at = (q: number) => (list.length === 0 ? Number.NaN : list[Math.min(list.length - 1, Math.floor(q * list.length))]);
    return { median: at(0.5), p95: at(0.95) };
  };
  return { body: summary(errors.body), hands: summary(errors.hands), face: summary(errors.face), bridged };
}
