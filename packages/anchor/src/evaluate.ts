/** `evaluate`: the avatar against the part of its clip that it was never trained on. */
import { noGrad, scope } from "@make-your-anchor/torch";
import { loadMotion } from "@make-your-anchor/body";
import { readImage, resizePil, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { chooseCompute, type ComputeOptions } from "./compute.ts";
import { ConditionRenderer } from "./conditions.ts";
import { viewOf } from "./draft/view.ts";
import { fromPlanes, PictureSet, readFrame, spread, toPlanes } from "./dataset.ts";
import { AnchorError } from "./errors.ts";
import { makeFolder, writeJson } from "./files.ts";
import type { FaceCounts } from "./head/face-log.ts";
import { describeFaces, faceBox, scoreFaces, type Box, type FaceScores } from "./head/measure-face.ts";
import { maskParser } from "./head/heads.ts";
import { paintHeads, type FaceOptions } from "./head/paint.ts";
import { motionHeads } from "./head/source.ts";
import { checkStrength, faceStrength } from "./head/strength.ts";
import { generateFrames, type SamplingOptions } from "./generate.ts";
import { NearestFrames, PixelStatistics, score, type Planes, type Scores } from "./measure.ts";
import { loadVae } from "./models/load.ts";
import { validatedFrames } from "./models/provenance.ts";
import type { WorkOptions } from "./progress.ts";
import { mix, writeSheet } from "./sheet.ts";

export interface EvaluateOptions
  extends
    WorkOptions,
    ComputeOptions,
    FaceOptions,
    Pick<SamplingOptions, "steps" | "guidanceScale" | "seed" | "windowSize" | "windowOverlap"> {}

interface Pair {
  full: Scores;
  moving: Scores;
}
interface WithFace extends Pair {
  /** Inside the face's box; null where the face is not to be seen. */
  face: FaceScores | null;
}

/** The keys are fixed: others script against them. */
export interface Evaluation {
  generated: WithFace;
  /** The same without the head stage; null where no head model is trained. */
  bodyOnly: WithFace | null;
  /** How much of the painted face was shown, 0..1; null without a head stage. */
  faceStrength: number | null;
  /** How many held-out frames' faces were painted, or left alone and why; null where none was to be painted. */
  faces: FaceCounts | null;
  baselines: {
    /** Mean of the training frames. */
    meanFrame: Pair;
    /** The training frame closest to the true one: an oracle, for it looks at the truth. */
    nearestFrame: Pair;
  };
  /** Held-out frames through the VAE and back: the most that any sampling can reach. */
  vae: { full: Scores; moving: Scores };
  /** Reprojection error of the body fit, pixels at 512². */
  fit: Record<"body" | "hands" | "face", { median: number | null; p95: number | null }>;
  /** `validated`: held-out frames left out here, for the choice among training's states looked at them. */
  frames: { train: number; heldOut: number; validated: number };
  /** Share of the picture that counts as moving. */
  movingShare: number;
  contactSheet: string;
}

/** Renders the held-out frames and compares. */
export async function evaluateAvatar(avatar: Avatar, o: EvaluateOptions = {}): Promise<Evaluation> {
  if (!avatar.trained)
    throw new AnchorError(
      "NOT_TRAINED",
      `${avatar.info.name} has no trained body model: train it first with "anchor train ${avatar.info.name} body"`,
      { misuse: true },
    );
  checkStrength(o.faceStrength);
  const { heldOutFrom, frames: total, resolution: size } = avatar.info;
  const heldFrames = avatar.framesWithPerson(heldOutFrom, total);
  if (heldFrames.length === 0)
    throw new AnchorError(
      "UNSEEN",
      `${avatar.info.name}: the person is not to be seen in the last part of the clip, which is kept for measuring: use a clip that shows them to its end`,
    );
  const held = await PictureSet.load(
    heldFrames.map((i) => avatar.frame(i)),
    size,
  );
  const truth = held.all;
  // What the choice of the weights looked at is no measure of them.
  const seen = new Set([...validatedFrames(avatar, "body"), ...(avatar.headTrained ? validatedFrames(avatar, "head") : [])]);
  const measured = heldFrames.flatMap((f, i) => (seen.has(f) ? [] : [i]));
  const { mean, nearest, statistics } = await trainingFrames(avatar, truth, o);
  truth.forEach((t) => statistics.add(t));
  const mask = statistics.moving();
  const moving = mask.reduce((a, b) => a + b, 0);
  if (moving === 0)
    throw new AnchorError("STILL", `${avatar.info.name}: nothing moves in the clip, so there is nothing to measure on the moving region`);

  const motion = loadMotion(avatar.motionPath);
  const made: Planes[] = [];
  for await (const { index, image } of generateFrames(avatar, {
    frames: truth.length,
    condition: (i) => readFrame(avatar.condition(heldFrames[i]), size),
    view: (i) => viewOf(motion, heldFrames[i], size),
    ...o,
    onProgress: (done, count) => o.onProgress?.({ stage: "rendering held-out frames", done, total: count }),
  })) {
    made[index] = toPlanes(image);
  }
  const painting = (o.face ?? true) && avatar.headTrained;
  const strength = painting ? (o.faceStrength ?? (await faceStrength(avatar, o)).strength) : null;
  const heads = motionHeads(avatar, motion);
  let bodyOnly: Planes[] | null = null;
  let faces: FaceCounts | null = null;
  const boxes: (Box | null)[] = [];
  try {
    for (let i = 0; i < truth.length; i++)
      boxes.push(avatar.showsFace(heldFrames[i]) && !seen.has(heldFrames[i]) ? faceBox(await heads.sight(heldFrames[i]), size) : null);
    if (strength !== null) bodyOnly = made.slice();
    if (strength) {
      using parser = await maskParser(avatar, o.device, o);
      faces = {};
      for await (const { index, image, face } of paintHeads(avatar, {
        frames: truth.length,
        bodyFrame: async (i) => fromPlanes(bodyOnly![i], size, size),
        condition: (i) => heads.condition(heldFrames[i]),
        sight: (i) => heads.sight(heldFrames[i]),
        parse: parser && ((image) => parser.mask(image)),
        temporal: o.faceTemporal,
        strength,
        paste: o.facePaste,
        steps: o.steps,
        seed: o.seed,
        device: o.device,
        precision: o.precision,
        signal: o.signal,
        onProgress: (done, count) => o.onProgress?.({ stage: "painting faces", done, total: count }),
      })) {
        made[index] = toPlanes(image);
        faces[face] = (faces[face] ?? 0) + 1;
      }
    }
  } finally {
    await heads.close();
  }
  // Where nothing was painted, the body's own faces are those that were made.
  const [ofTruth, ofMade, ofBody = ofMade] = await describeFaces(strength ? [truth, made, bodyOnly!] : [truth, made], boxes, size);
  using vae = loadVae(avatar, { device: chooseCompute(o, "rendering").device });
  const decoded: Planes[] = [];
  for (let i = 0; i < truth.length; i++) {
    decoded.push(
      scope(() =>
        noGrad(() => {
          const x = held.batch([i]).to(vae.device).to("float32").div(127.5).sub(1);
          return Uint8Array.from(vae.decode(vae.encode(x).mean).div(2).add(0.5).clamp(0, 1).mul(255).floats());
        }),
      ),
    );
  }
  const of = (frames: readonly Planes[]) => measured.map((i) => frames[i]);
  const pair = (frames: readonly Planes[]): Pair => ({
    full: score(of(frames), of(truth), size, null),
    moving: score(of(frames), of(truth), size, mask),
  });
  const folder = makeFolder(avatar.path("evaluation"));
  const contactSheet = `${folder}/contact-sheet.png`;
  await writeContactSheet(avatar, contactSheet, made, heldFrames);
  const result: Evaluation = {
    generated: { ...pair(made), face: scoreFaces(made, truth, boxes, size, { truth: ofTruth, made: ofMade }) },
    bodyOnly: bodyOnly && {
      ...pair(bodyOnly),
      face: scoreFaces(bodyOnly, truth, boxes, size, { truth: ofTruth, made: ofBody }),
    },
    faceStrength: strength,
    faces,
    baselines: { meanFrame: pair(truth.map(() => mean)), nearestFrame: pair(nearest) },
    vae: pair(decoded),
    fit: { body: avatar.info.fit.body, hands: avatar.info.fit.hands, face: avatar.info.fit.face },
    frames: { train: avatar.trainingFrames.length, heldOut: measured.length, validated: truth.length - measured.length },
    movingShare: moving / (size * size),
    contactSheet,
  };
  writeJson(`${folder}/evaluation.json`, result);
  return result;
}

/** What the baselines take from the frames trained on, read one by one; `statistics` of them are there to be added to. */
async function trainingFrames(
  avatar: Avatar,
  truth: readonly Planes[],
  o: WorkOptions,
): Promise<{ mean: Planes; nearest: readonly Planes[]; statistics: PixelStatistics }> {
  const size = avatar.info.resolution;
  const frames = avatar.trainingFrames;
  const statistics = new PixelStatistics(size);
  const nearest = new NearestFrames(truth);
  for (const [k, frame] of frames.entries()) {
    o.signal?.throwIfAborted();
    const planes = toPlanes(await readFrame(avatar.frame(frame), size));
    statistics.add(planes);
    nearest.add(planes);
    o.onProgress?.({ stage: "looking at training frames", done: k + 1, total: frames.length });
  }
  return { mean: statistics.mean(), nearest: nearest.best, statistics };
}

/** Rows of mesh over the clip, condition, generated, truth. */
async function writeContactSheet(avatar: Avatar, path: string, made: readonly Planes[], frames: readonly number[]): Promise<void> {
  const { resolution: size } = avatar.info;
  const cell = Math.max(192, size);
  const motion = loadMotion(avatar.motionPath);
  const renderer = new ConditionRenderer(avatar.info.bodyModel, motion.camera!, cell);
  const rows: RgbImage[][] = [];
  for (const i of spread(Math.min(5, made.length), made.length)) {
    const truth = await readImage(avatar.frame(frames[i]));
    const large = resizePil(truth, cell, cell, "bicubic");
    const over = renderer.render(motion, frames[i], { background: large.data });
    rows.push([mix(over, large, 0.45), await readImage(avatar.condition(frames[i])), fromPlanes(made[i], size, size), truth]);
  }
  renderer.dispose();
  await writeSheet(path, rows, cell);
}
