/** How a made-up person moves: speech-like motion in a manner of their own. Fits of real people find more than speech has, so they get it too. */
import type { Motion } from "@make-your-anchor/body";
import { mannerOfHands } from "./hands.ts";
import { uniform, wander, type Dice } from "./random.ts";
import { gestures, speechMotion, type ArmPose } from "./speech-motion.ts";

/** Another speaker's gestures: the same kinds, done their own way; hands may rest. */
function randomRepertoire(d: Dice): ArmPose[] {
  const rest: ArmPose = { shoulder: [0.15, -0.25, -1.25], elbow: [-0.1, -0.9, 0], wrist: [0, 0, 0], curl: 0.25 };
  const down: ArmPose = { shoulder: [0.1, -0.1, -1.35], elbow: [0, -0.25, 0], wrist: [0, 0, 0], curl: 0.3 };
  const spread = d.range(0.05, 0.3);
  const vary = (p: readonly [number, number, number], k: number) =>
    p.map((x) => x + d.normal(0, spread * k)) as unknown as readonly [number, number, number];
  const own = (p: ArmPose): ArmPose => ({
    shoulder: vary(p.shoulder, 1),
    elbow: vary(p.elbow, 1.3),
    wrist: vary(p.wrist, 1.3),
    curl: p.curl + d.normal(0, 0.2),
  });
  return [...Array.from({ length: 5 + d.below(6) }, () => own(d.pick(gestures))), own(rest), own(d.chance(0.4) ? down : rest)];
}

/** `frames` frames of it, with their body's shape. */
export function perform(d: Dice, frames: number, fps: number, betas: Float32Array): Motion {
  const m = speechMotion(frames / fps, fps, d.seed(), randomRepertoire(d));
  m.betas.set(betas);
  const turned = d.normal(0, 0.16);
  const lean = [d.normal(0, 0.06), d.normal(0, 0.05)];
  const gain = d.range(0.7, 2.2);
  const bias = [d.normal(0, 0.08), d.normal(0, 0.14), d.normal(0, 0.05)];
  for (let f = 0; f < m.frames; f++) {
    m.globalOrient[3 * f + 1] += turned;
    m.globalOrient[3 * f] += lean[0];
    m.globalOrient[3 * f + 2] += lean[1];
    // Neck and head: joints 12 and 15, the pelvis is not among them.
    for (const joint of [11, 14])
      for (let k = 0; k < 3; k++) m.bodyPose[f * 63 + joint * 3 + k] = m.bodyPose[f * 63 + joint * 3 + k] * gain + bias[k] / 2;
  }
  mannerOfFace(d, m, fps);
  mannerOfHands(d, m, fps);
  return m;
}

/** A face at rest is nobody's zero, and a smile may be broad or never come; a fit's coefficients go below zero too. */
function mannerOfFace(d: Dice, m: Motion, fps: number): void {
  const random = uniform(d.seed());
  const cheerful = d.chance(0.4);
  /** In the order of the expressions: what the face rests at, what comes and goes over seconds, and how much of speech's own is left. */
  const manner = [
    { rest: d.normal(0.08, 0.12), moves: 0.08, speech: 1 },
    { rest: d.normal(0.08, 0.12), moves: 0.08, speech: 1 },
    { rest: d.normal(-0.1, 0.12), moves: 0.15, speech: d.range(0.2, 0.9) },
    { rest: d.normal(-0.25, 0.25), moves: 0.12, speech: d.range(0, 0.8) },
    { rest: d.normal(cheerful ? 0.2 : 0, 0.1), moves: cheerful ? d.range(0.2, 0.6) : 0.15, speech: d.range(0.2, 1) },
    { rest: d.normal(-0.1, 0.15), moves: 0.15, speech: 1 },
    { rest: d.normal(-0.1, 0.12), moves: 0.1, speech: d.range(0.4, 1) },
    { rest: d.normal(-0.12, 0.15), moves: d.range(0.1, 0.4), speech: d.range(0.5, 1.2) },
    { rest: d.normal(0.05, 0.1), moves: d.range(0.05, 0.25), speech: d.range(0.5, 1.2) },
    { rest: d.normal(0.12, 0.1), moves: 0.08, speech: 1 },
  ].map((x) => ({ ...x, comes: wander(random, 1.2 + random()) }));
  const [jaw, gaze] = [d.range(0.6, 1.3), d.range(0.7, 2.2)];
  const looks = [d.normal(0, 0.05), d.normal(0, 0.1)];
  for (let f = 0; f < m.frames; f++) {
    const t = f / fps;
    manner.forEach(({ rest, moves, speech, comes }, k) => {
      m.expression[10 * f + k] = m.expression[10 * f + k] * speech + rest + moves * comes(t);
    });
    m.jawPose[3 * f] *= jaw;
    for (const eye of [m.leyePose, m.reyePose]) for (let k = 0; k < 2; k++) eye[3 * f + k] = eye[3 * f + k] * gaze + looks[k];
  }
}
