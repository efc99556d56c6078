/** `evaluate`: the avatar against the part of its clip that it was never trained on. */
import { fromData, noGrad, scope } from "@make-your-anchor/torch";
import { loadMotion, type Motion } from "@make-your-anchor/body";
import { readImage, resizePil, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { chooseCompute, type ComputeOptions } from "./compute.ts";
import { ConditionRenderer } from "./conditions.ts";
import { viewOf } from "./draft/view.ts";
import { fromPlanes, readFrame, readPlanes, spread, toPlanes } from "./dataset.ts";
import { AnchorError } from "./errors.ts";
import { makeFolder, writeJson } from "./files.ts";
import { FrameFile } from "./frame-file.ts";
import type { FaceCounts } from "./head/face-log.ts";
import { faceBox, FaceScoring, likenesses, type Box, type FaceScores, type FrameOf } from "./head/measure-face.ts";
import { maskParser } from "./head/heads.ts";
import { paintHeads, type FaceOptions } from "./head/paint.ts";
import { motionHeads } from "./head/source.ts";
import { checkStrength, faceStrength } from "./head/strength.ts";
import { generateFrames, type SamplingOptions } from "./generate.ts";
import { NearestFrames, PixelStatistics, Scoring, type Planes, type Scores } from "./measure.ts";
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
  const count = heldFrames.length;
  const truth = (i: number) => readPlanes(avatar.frame(heldFrames[i]), size);
  // What the choice of the weights looked at is no measure of them.
  const seen = new Set([...validatedFrames(avatar, "body"), ...(avatar.headTrained ? validatedFrames(avatar, "head") : [])]);
  const { mean, nearest, mask } = await lookAtFrames(avatar, heldFrames, o);
  const moving = mask.reduce((a, b) => a + b, 0);
  if (moving === 0)
    throw new AnchorError("STILL", `${avatar.info.name}: nothing moves in the clip, so there is nothing to measure on the moving region`);

  const motion = loadMotion(avatar.motionPath);
  const folder = makeFolder(avatar.path("evaluation"));
  using body = new FrameFile(folder, size);
  for await (const { index, image } of generateFrames(avatar, {
    frames: count,
    condition: (i) => readFrame(avatar.condition(heldFrames[i]), size),
    view: (i) => viewOf(motion, heldFrames[i], size),
    ...o,
    onProgress: (done, total) => o.onProgress?.({ stage: "rendering held-out frames", done, total }),
  })) {
    body.set(index, toPlanes(image));
  }
  const painting = (o.face ?? true) && avatar.headTrained;
  const strength = painting ? (o.faceStrength ?? (await faceStrength(avatar, o)).strength) : null;
  using painted = strength ? new FrameFile(folder, size) : null;
  const made = painted ?? body;
  const { boxes, faces } = await lookAtFaces(
    avatar,
    { motion, held: heldFrames, seen, body },
    painted && { into: painted, strength: strength! },
    o,
  );
  // Where nothing was painted, the body's own faces are those that were made.
  const renderings: FrameOf[] = [(i) => made.get(i), ...(painted ? [(i: number) => body.get(i)] : [])];
  const [alike, bodyAlike = alike] = await likenesses(truth, renderings, boxes, size);

  using vae = loadVae(avatar, { device: chooseCompute(o, "rendering").device });
  const decoded = (planes: Planes) =>
    scope(() =>
      noGrad(() => {
        const x = fromData(planes, [1, 3, size, size]).to(vae.device).to("float32").div(127.5).sub(1);
        return Uint8Array.from(vae.decode(vae.encode(x).mean).div(2).add(0.5).clamp(0, 1).mul(255).floats());
      }),
    );
  const scoring = () => new Scoring(size, [null, mask]);
  const [ofMade, ofBody, ofMean, ofNearest, ofVae] = [scoring(), scoring(), scoring(), scoring(), scoring()];
  const [faceMade, faceBody] = [new FaceScoring(size), new FaceScoring(size)];
  for (const [i, frame] of heldFrames.entries()) {
    o.signal?.throwIfAborted();
    const [t, m] = [await truth(i), made.get(i)];
    const b = painted ? body.get(i) : m;
    faceMade.add(m, t, boxes[i], alike[i]);
    if (strength !== null) faceBody.add(b, t, boxes[i], bodyAlike[i]);
    if (!seen.has(frame)) {
      ofMade.add(m, t);
      if (strength !== null) ofBody.add(b, t);
      ofMean.add(mean, t);
      ofNearest.add(await readPlanes(avatar.frame(nearest[i]), size), t);
      ofVae.add(decoded(t), t);
    }
    o.onProgress?.({ stage: "measuring", done: i + 1, total: count });
  }
  const pair = (s: Scoring): Pair => {
    const [full, moving] = s.scores();
    return { full, moving };
  };
  const measured = heldFrames.filter((f) => !seen.has(f)).length;
  const contactSheet = `${folder}/contact-sheet.png`;
  await writeContactSheet(avatar, motion, contactSheet, (i) => made.get(i), heldFrames);
  const result: Evaluation = {
    generated: { ...pair(ofMade), face: faceMade.scores() },
    bodyOnly: strength === null ? null : { ...pair(ofBody), face: faceBody.scores() },
    faceStrength: strength,
    faces,
    baselines: { meanFrame: pair(ofMean), nearestFrame: pair(ofNearest) },
    vae: pair(ofVae),
    fit: { body: avatar.info.fit.body, hands: avatar.info.fit.hands, face: avatar.info.fit.face },
    frames: { train: avatar.trainingFrames.length, heldOut: measured, validated: count - measured },
    movingShare: moving / (size * size),
    contactSheet,
  };
  writeJson(`${folder}/evaluation.json`, result);
  return result;
}

/** Where held-out frames' faces are, null where one does not count; and, where they are to be painted, the frames with them painted anew. */
async function lookAtFaces(
  avatar: Avatar,
  { motion, held, seen, body }: { motion: Motion; held: readonly number[]; seen: ReadonlySet<number>; body: FrameFile },
  painting: { into: FrameFile; strength: number } | null,
  o: EvaluateOptions,
): Promise<{ boxes: (Box | null)[]; faces: FaceCounts | null }> {
  const size = avatar.info.resolution;
  const heads = motionHeads(avatar, motion);
  const boxes: (Box | null)[] = [];
  try {
    for (const frame of held) boxes.push(avatar.showsFace(frame) && !seen.has(frame) ? faceBox(await heads.sight(frame), size) : null);
    if (!painting) return { boxes, faces: null };
    const faces: FaceCounts = {};
    using parser = await maskParser(avatar, o.device, o);
    for await (const { index, image, face } of paintHeads(avatar, {
      frames: held.length,
      bodyFrame: async (i) => fromPlanes(body.get(i), size, size),
      condition: (i) => heads.condition(held[i]),
      sight: (i) => heads.sight(held[i]),
      parse: parser && ((image) => parser.mask(image)),
      temporal: o.faceTemporal,
      strength: painting.strength,
      paste: o.facePaste,
      steps: o.steps,
      seed: o.seed,
      device: o.device,
      precision: o.precision,
      signal: o.signal,
      onProgress: (done, total) => o.onProgress?.({ stage: "painting faces", done, total }),
    })) {
      painting.into.set(index, toPlanes(image));
      faces[face] = (faces[face] ?? 0) + 1;
    }
    return { boxes, faces };
  } finally {
    await heads.close();
  }
}

/** Bytes of held-out frames that training frames are compared with in one reading of them. */
const comparedAtOnce = 256 * 2 ** 20;

/** What moves in the clip, and what the baselines take from the frames trained on: their mean, and the number of the one nearest to each held-out frame. */
async function lookAtFrames(
  avatar: Avatar,
  held: readonly number[],
  o: WorkOptions,
): Promise<{ mean: Planes; nearest: readonly number[]; mask: Uint8Array }> {
  const size = avatar.info.resolution;
  const frames = avatar.trainingFrames;
  const few = Math.max(1, Math.floor(comparedAtOnce / (3 * size * size)));
  const total = Math.ceil(held.length / few) * frames.length;
  const statistics = new PixelStatistics(size);
  let mean: Planes | undefined;
  const nearest: number[] = [];
  for (let from = 0, done = 0; from < held.length; from += few) {
    const targets: Planes[] = [];
    for (const frame of held.slice(from, from + few)) targets.push(await readPlanes(avatar.frame(frame), size));
    const search = new NearestFrames(targets);
    for (const frame of frames) {
      o.signal?.throwIfAborted();
      const planes = await readPlanes(avatar.frame(frame), size);
      if (!mean) statistics.add(planes);
      search.add(planes, frame);
      o.onProgress?.({ stage: "looking at training frames", done: ++done, total });
    }
    mean ??= statistics.mean();
    for (const planes of targets) statistics.add(planes);
    nearest.push(...search.best);
  }
  return { mean: mean!, nearest, mask: statistics.moving() };
}

/** Rows of mesh over the clip, condition, generated, truth. */
async function writeContactSheet(
  avatar: Avatar,
  motion: Motion,
  path: string,
  made: (i: number) => Planes,
  frames: readonly number[],
): Promise<void> {
  const { resolution: size } = avatar.info;
  const cell = Math.max(192, size);
  const renderer = new ConditionRenderer(avatar.info.bodyModel, motion.camera!, cell);
  const rows: RgbImage[][] = [];
  for (const i of spread(Math.min(5, frames.length), frames.length)) {
    const truth = await readImage(avatar.frame(frames[i]));
    const large = resizePil(truth, cell, cell, "bicubic");
    const over = renderer.render(motion, frames[i], { background: large.data });
    rows.push([mix(over, large, 0.45), await readImage(avatar.condition(frames[i])), fromPlanes(made(i), size, size), truth]);
  }
  renderer.dispose();
  await writeSheet(path, rows, cell);
}
