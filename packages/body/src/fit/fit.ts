/**
 * Fits the body model to 2D landmarks of a whole clip at once: one shape, one camera, and a smooth motion, by gradient descent
 * through the body model. Robust to wrong points (Geman-McClure), held in joint limits and near a resting pose; frames without
 * hands or face are bridged by their neighbours through the smoothness of the motion. Then, where there are any, to the frames' pictures.
 */
import { setImmediate as breathe } from "node:timers/promises";
import { AdamW, backward, fromData, noGrad, Parameter, scope, type Tensor } from "@make-your-anchor/torch";
import { BodyError } from "../errors.ts";
import { BodyModel, type BodyModelData, type BodyParameters } from "../model/body-model.ts";
import { emptyMotion, type Motion } from "../motion/motion.ts";
import { spaceOf } from "../motion/poser.ts";
import { initialPlace } from "./initial.ts";
import { centred } from "./join.ts";
import { modelPoints, surely, type FrameLandmarks } from "./landmarks.ts";
import { Appearance, type FitPictures } from "./appearance.ts";
import { bodyLimits, handLimits, type PoseLimits } from "./priors.ts";

/** Where a fit stands between two of its stages. */
export interface FitStage {
  /** How many are done: 1, 2 or 3. */
  stages: number;
  /** What is fitted, by the name it has in a motion. */
  values: ReadonlyMap<string, Float32Array>;
}

export interface FitOptions {
  /** Size of the picture the landmarks are in, pixels. */
  width: number;
  height: number;
  fps: number;
  /** The frames themselves, square as the picture then is: the body is fitted to them once the points are met. */
  pictures?: FitPictures;
  /** The person's shape where it is known, as a motion fitted before holds it; it stays so. */
  betas?: Float32Array;
  /** Called between stages; a fit of the same frames with what it was given as `resume` gives the same motion, bit for bit. */
  onStage?: (stage: FitStage) => void;
  resume?: FitStage;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Focal length of the original's camera at 512 pixels: so long that depth hardly changes size. */
const focalAt512 = 5000;
/** A residual of this many pixels at 512² counts a quarter of the most: wide at first, so that a far start is drawn in; narrow at the end, so that wrong points let go. */
const robustPixels = { from: 40, to: 22 };

/** Runs of the body model's joints: of both hands' fingers, and their tips. */
const fingerJoints = [
  [25, 30],
  [66, 10],
] as const;
/** How far a chest and belly reach before the chest's joint, with a finger before them, metres. */
const chestDepth = 0.15;

interface Stage {
  steps: number;
  rate: number;
  free: readonly string[];
}

const stages: readonly Stage[] = [
  { steps: 60, rate: 0.03, free: ["transl", "globalOrient", "betas"] },
  { steps: 140, rate: 0.03, free: ["transl", "globalOrient", "betas", "bodyPose", "jawPose"] },
  {
    steps: 260,
    rate: 0.03,
    free: ["transl", "globalOrient", "betas", "bodyPose", "jawPose", "leftHandPose", "rightHandPose", "expression", "leyePose", "reyePose"],
  },
];

/**
 * Then to the pictures: how much their error (0..1 a frame) counts against the points' (square pixels at 512²), by how much they are blurred, as a share
 * of their side, and how many are looked at in a step.
 */
const byPictures = { steps: 180, rate: 0.02, weight: 15000, blurs: [1 / 40, 1 / 80, 1 / 160], frames: 250 } as const;

/**
 * @param frames what is to be seen in each frame
 * @returns the motion with its camera, its shape in the body model's space
 * @throws {BodyError} `FIT` without a frame, where no frame shows where the person is, or when what is to be resumed is another fit's
 */
export async function fitMotion(data: BodyModelData, frames: readonly FrameLandmarks[], o: FitOptions): Promise<Motion> {
  const count = frames.length;
  if (count < 1) throw new BodyError("FIT", "nothing to fit: no frames");
  const unit = 512 / Math.max(o.width, o.height); // pixels of the fit: 512 for the longer side
  const focal = focalAt512;
  const [cx, cy] = [(o.width * unit) / 2, (o.height * unit) / 2];
  const expressionCount = Math.min(10, data.expressionCount);
  const model = new BodyModel(
    data,
    { numBetas: Math.min(10, data.shapeCount), numExpressionCoeffs: expressionCount },
    BodyModel.landmarkVertices(data),
  );
  const own: Tensor[] = [];
  const constant = (values: Float32Array, shape: readonly number[]) => {
    const t = fromData(values, shape);
    own.push(t);
    return t;
  };

  // Targets and confidences, [F, P, 2] and [F, P].
  const P = modelPoints.length;
  const target = new Float32Array(count * P * 2);
  const confidence = new Float32Array(count * P);
  frames.forEach((frame, f) =>
    modelPoints.forEach((point, p) => {
      const l = point.pick(frame);
      if (!l || !(l.score > surely)) return;
      target[(f * P + p) * 2] = l.x * unit;
      target[(f * P + p) * 2 + 1] = l.y * unit;
      confidence[f * P + p] = point.weight * l.score ** 2;
    }),
  );
  const startPlace = initialPlace(frames, unit, focal, cx, cy);
  const targetT = constant(target, [count, P, 2]);
  const confidenceT = constant(confidence, [count, P]);
  const pointIndex = fromData(
    BigInt64Array.from(modelPoints, (p) => BigInt(p.joint)),
    [P],
  );
  own.push(pointIndex);
  const center = constant(new Float32Array([cx, cy]), [1, 1, 2]);

  const body = bodyLimits();
  const hands = { left: handLimits("left"), right: handLimits("right") };
  const repeat = (row: ArrayLike<number>) => {
    const out = new Float32Array(count * row.length);
    for (let f = 0; f < count; f++) out.set(row, f * row.length);
    return out;
  };
  const parameters = {
    betas: o.betas ?? new Float32Array(model.options.numBetas),
    transl: startPlace,
    globalOrient: repeat([Math.PI, 0, 0]),
    bodyPose: repeat(body.rest),
    jawPose: new Float32Array(count * 3),
    leyePose: new Float32Array(count * 3),
    reyePose: new Float32Array(count * 3),
    leftHandPose: new Float32Array(count * 45),
    rightHandPose: new Float32Array(count * 45),
    expression: new Float32Array(count * expressionCount),
  };
  const leaves = Object.fromEntries(
    Object.entries(parameters).map(([name, values]) => {
      const rows = name === "betas" ? 1 : count;
      const start = o.resume?.values.get(name) ?? values;
      if (start.length !== values.length)
        throw new BodyError("FIT", `to resume from: ${name} holds ${start.length} values, ${count} frames need ${values.length}`);
      const p = new Parameter([rows, values.length / rows], () => {
        throw new Error("set from values");
      });
      p.set(fromData(start, p.shape));
      return [name, p];
    }),
  ) as Record<keyof typeof parameters, Parameter>;
  const limitT = (l: PoseLimits) => ({
    rest: constant(l.rest, [1, l.rest.length]),
    min: constant(l.min, [1, l.min.length]),
    max: constant(l.max, [1, l.max.length]),
    pull: constant(l.pull, [1, l.pull.length]),
    free: constant(l.free, [1, l.free.length]),
  });
  const limits = { body: limitT(body), left: limitT(hands.left), right: limitT(hands.right) };
  const last = stages.at(-1)!;
  const total = stages.reduce((n, s) => n + s.steps, 0) + (o.pictures ? byPictures.steps : 0);
  let done = 0;

  const project = (joints: Tensor): Tensor => {
    const points = joints.indexSelect(1, pointIndex);
    return points
      .narrow(2, 0, 2)
      .div(points.narrow(2, 2, 1))
      .mul(focal)
      .add(center);
  };
  const forward = (): { joints: Tensor; p: BodyParameters } => {
    // Angles that are not fitted stay at rest.
    const p = Object.fromEntries(Object.entries(leaves).map(([name, leaf]) => [name, leaf.value])) as unknown as BodyParameters;
    p.bodyPose = limits.body.rest.add(p.bodyPose.sub(limits.body.rest).mul(limits.body.free));
    return { joints: model.forward(p).joints, p };
  };
  const second = (t: Tensor): Tensor => {
    const n = t.size(0);
    return t
      .narrow(0, 2, n - 2)
      .sub(t.narrow(0, 1, n - 2).mul(2))
      .add(t.narrow(0, 0, n - 2));
  };
  const first = (t: Tensor): Tensor => t.narrow(0, 1, t.size(0) - 1).sub(t.narrow(0, 0, t.size(0) - 1));
  const mean = (t: Tensor, weight: number) =>
    t
      .square()
      .sum()
      .mul(weight / count);
  const beyond = (t: Tensor, l: { min: Tensor; max: Tensor; free: Tensor }) => l.min.sub(t).relu().add(t.sub(l.max).relu()).mul(l.free);

  const loss = (stage: number, rho: number, further?: (p: BodyParameters) => Tensor): Tensor => {
    const { joints, p } = forward();
    const residual = project(joints).sub(targetT).square().sum(2); // squared pixels, [F, P]
    const rho2 = rho ** 2;
    const soft = stage === 0 ? residual : residual.mul(rho2).div(residual.add(rho2));
    const terms = [soft.mul(confidenceT).sum().div(count)];
    // Likely poses.
    const fromRest = (t: Tensor, l: { rest: Tensor; pull: Tensor; free: Tensor }) =>
      t.sub(l.rest).square().mul(l.pull).mul(l.free).sum().div(count);
    terms.push(fromRest(p.bodyPose, limits.body).mul(12), mean(beyond(p.bodyPose, limits.body), 3000));
    terms.push(fromRest(p.leftHandPose, limits.left).mul(6), fromRest(p.rightHandPose, limits.right).mul(6));
    terms.push(mean(beyond(p.leftHandPose, limits.left), 1500), mean(beyond(p.rightHandPose, limits.right), 1500));
    terms.push(mean(p.expression, 12), mean(p.expression.sub(1.2).relu().add(p.expression.add(0.4).neg().relu()), 400));
    terms.push(p.betas.square().sum().mul(14), mean(p.leyePose, 30), mean(p.reyePose, 30), mean(p.leyePose.sub(p.reyePose), 200));
    // The jaw opens, hardly moves sideways, and closes no further than shut.
    terms.push(
      mean(p.jawPose.narrow(1, 0, 1), 10),
      mean(p.jawPose.narrow(1, 1, 2), 800),
      mean(p.jawPose.narrow(1, 0, 1).neg().relu(), 4000),
    );
    // Hands of a speaker are before the chest: the camera's depth cannot tell.
    const depth = (j: number) => joints.select(1, j).select(1, 2);
    const chest = depth(9);
    for (const wrist of [20, 21])
      terms.push(
        depth(wrist)
          .sub(chest)
          .add(0.1)
          .relu()
          .square()
          .sum()
          .mul(2500 / count),
      );
    // Nor whether a finger is in the chest: from the front such a one is not drawn.
    for (const [first, fingers] of fingerJoints) {
      const behind = joints.narrow(1, first, fingers).select(2, 2).sub(chest.unsqueeze(1)).add(chestDepth);
      terms.push(mean(behind.relu(), 8000));
    }
    // Smooth motion.
    if (count >= 3) {
      const skeleton = joints.narrow(1, 0, 76);
      terms.push(mean(second(skeleton).mul(1000), 0.0025));
      terms.push(
        mean(first(p.bodyPose), 60),
        mean(second(p.leftHandPose), 60),
        mean(second(p.rightHandPose), 60),
        mean(first(p.leftHandPose), 20),
        mean(first(p.rightHandPose), 20),
      );
      terms.push(
        mean(first(p.expression), 25),
        mean(second(p.jawPose), 60),
        mean(first(p.globalOrient), 150),
        mean(first(p.leyePose), 40),
        mean(first(p.reyePose), 40),
      );
      terms.push(mean(first(p.transl!), 2000), mean(first(p.transl!.narrow(1, 2, 1)), 2000));
    }
    if (further) terms.push(further(p));
    return terms.reduce((a, b) => a.add(b));
  };
  const descend = async (stage: Stage, lossAt: (i: number) => Tensor) => {
    const free = stage.free.filter((name) => !(o.betas && name === "betas"));
    for (const [name, leaf] of Object.entries(leaves)) leaf.value.requiresGrad_(free.includes(name));
    const optimizer = new AdamW(
      free.map((name) => [name, leaves[name as keyof typeof leaves]] as const),
      { lr: stage.rate, weightDecay: 0, betas: [0.9, 0.98] },
    );
    try {
      for (let i = 0; i < stage.steps; i++) {
        o.signal?.throwIfAborted();
        optimizer.lr = stage.rate * (0.05 + 0.95 * 0.5 * (1 + Math.cos((Math.PI * i) / stage.steps)));
        scope(() => backward(lossAt(i)));
        optimizer.step();
        optimizer.zeroGrad();
        done++;
        o.onProgress?.(done, total);
        if (i % 4 === 0) await breathe();
      }
    } finally {
      optimizer.dispose();
    }
  };
  /** The pose as it is now. */
  const current = (): Motion => {
    const motion = emptyMotion(count, o.fps, expressionCount);
    scope(() =>
      noGrad(() => {
        const { p } = forward();
        for (const name of Object.keys(leaves) as (keyof typeof leaves)[]) motion[name] = p[name]!.floats();
      }),
    );
    motion.space = spaceOf(data);
    motion.camera = { width: o.width, height: o.height, focal: focal / unit, cx: o.width / 2, cy: o.height / 2, transl: [0, 0, 0] };
    return motion;
  };

  try {
    for (const [s, stage] of stages.entries()) {
      if (s < (o.resume?.stages ?? 0)) {
        done += stage.steps;
        continue;
      }
      await descend(stage, (i) => {
        const late = Math.min(1, (2 * i) / stage.steps);
        return loss(s, s < 2 ? robustPixels.from : robustPixels.from * (robustPixels.to / robustPixels.from) ** late);
      });
      o.onStage?.({ stages: s + 1, values: new Map(Object.entries(leaves).map(([name, leaf]) => [name, leaf.value.floats()])) });
    }
    if (o.pictures) await fitPictures(o.pictures);
    return centred(current());
  } finally {
    model.dispose();
    for (const t of own) t.dispose();
    for (const leaf of Object.values(leaves)) leaf.dispose();
  }

  /** Goes on from what the points told. */
  async function fitPictures(pictures: FitPictures): Promise<void> {
    const appearance = new Appearance(data, current(), pictures);
    if (appearance.vertices.length === 0) return;
    const needed = BodyModel.landmarkVertices(data);
    const kept = [...new Set([...needed, ...appearance.vertices])].sort((a, b) => a - b);
    const position = new Map(kept.map((v, i) => [v, i]));
    using places = fromData(
      BigInt64Array.from(appearance.vertices, (v) => BigInt(position.get(v)!)),
      [appearance.vertices.length],
    );
    using surface = new BodyModel(data, model.options, kept);
    const { steps, rate, weight, blurs, frames: most } = byPictures;
    const scale = pictures.size / 512;
    const available = pictures.frames.length;
    const strides = Math.ceil(available / most);
    const stepsOf = Math.ceil(steps / blurs.length);
    await descend({ steps, rate, free: last.free }, (i) => {
      if (i % stepsOf === 0) appearance.blur(Math.max(0.5, blurs[i / stepsOf] * pictures.size));
      return loss(stages.length, robustPixels.to, (all) => {
        // Of a long clip not all frames at once.
        const picked = Array.from({ length: Math.ceil((available - (i % strides)) / strides) }, (_, k) => (i % strides) + k * strides);
        const index = fromData(
          BigInt64Array.from(picked, (k) => BigInt(pictures.frames[k])),
          [picked.length],
        );
        const p = Object.fromEntries(
          Object.entries(all).map(([name, t]) => [name, name === "betas" ? t : (t as Tensor).indexSelect(0, index)]),
        ) as unknown as BodyParameters;
        const vertices = surface.forward(p).vertices.indexSelect(1, places);
        const projected = vertices
          .narrow(2, 0, 2)
          .div(vertices.narrow(2, 2, 1))
          .mul(focal)
          .add(center)
          .mul(scale);
        const gradient = appearance.gradient(
          noGrad(() => projected.floats()),
          picked,
        );
        return projected
          .mul(fromData(gradient, projected.shape))
          .sum()
          .mul(weight / picked.length);
      });
    });
  }
}
