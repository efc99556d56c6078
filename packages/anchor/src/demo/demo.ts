/** The embedded demo: a presenter of our own making is filmed, learnt, and performs a speech it never gave. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readImage, resizePil, VideoWriter, type RgbImage } from "@make-your-anchor/media";
import { saveMotion, type Motion } from "@make-your-anchor/body";
import { animate } from "../animate/animate.ts";
import { Avatar } from "../avatar.ts";
import { ConditionRenderer } from "../conditions.ts";
import { createAvatar } from "../create.ts";
import { toPlanes } from "../dataset.ts";
import { frameName, makeFolder, writeJson } from "../files.ts";
import { score, type Scores } from "../measure.ts";
import type { WorkOptions } from "../progress.ts";
import { retarget } from "../retarget.ts";
import { writeSheet } from "../sheet.ts";
import { trainBody } from "../train/body.ts";
import { trainHead } from "../train/head.ts";
import { Presenter, presenterCamera } from "./presenter.ts";
import { speechMotion, speechSound } from "../people/speech-motion.ts";

export interface DemoOptions extends WorkOptions {
  /** Length of the clip that is learnt from. Default 24. */
  clipSeconds?: number;
  /** Training time, body and head together. Default 7. */
  minutes?: number;
  /** Training steps of each instead. */
  steps?: number;
  /** Whether the head model is trained too, for a third of the time, and the face painted by it. Default true. */
  face?: boolean;
  /** Length of the new performance. Default 5. */
  seconds?: number;
}

export interface DemoResult {
  clip: string;
  video: string;
  contactSheet: string;
  avatar: string;
  /** The new performance against the presenter really giving it. */
  unseen: Scores;
  seconds: number;
}

const fps = 25;
const filmedSize = 256;
/** Share of the training time that is the head's. */
const headShare = 1 / 3;

/** Films the presenter: an mp4 with sound, frame by frame. */
async function film(path: string, seconds: number, seed: number, o: WorkOptions): Promise<void> {
  const motion = speechMotion(seconds, fps, seed);
  const presenter = new Presenter(filmedSize);
  const sound = `${path}.wav`;
  writeFileSync(sound, speechSound(motion, seed));
  const writer = new VideoWriter(path, { width: filmedSize, height: filmedSize, fps, audio: sound, crf: 12 });
  try {
    for (let i = 0; i < motion.frames; i++) {
      o.signal?.throwIfAborted();
      await writer.write(presenter.frame(motion, i));
      o.onProgress?.({ stage: "filming the presenter", done: i + 1, total: motion.frames });
      if (i % 8 === 0) await new Promise(setImmediate);
    }
    await writer.close();
  } catch (error) {
    await writer.abort();
    throw error;
  } finally {
    presenter.dispose();
  }
}

/** The presenter's clip and its motion, with the camera it was filmed by, in `folder`; what is there is kept. */
export async function filmPresenter(
  folder: string,
  seconds: number,
  o: WorkOptions = {},
): Promise<{ clip: string; motionPath: string; motion: Motion }> {
  makeFolder(folder);
  const clip = join(folder, "presenter.mp4");
  const motionPath = join(folder, "presenter.npz");
  const motion = speechMotion(seconds, fps, 1);
  motion.camera = presenterCamera(filmedSize);
  if (!existsSync(clip)) await film(clip, seconds, 1, o);
  saveMotion(motionPath, motion);
  return { clip, motionPath, motion };
}

/** Runs the demo in `folder`; what a run before it finished is kept. */
export async function runDemo(folder: string, o: DemoOptions = {}): Promise<DemoResult> {
  const started = performance.now();
  const { clip, motionPath, motion: learnt } = await filmPresenter(folder, o.clipSeconds ?? 24, o);
  const camera = learnt.camera!;
  const avatarFolder = join(folder, "presenter");
  if (!Avatar.exists(avatarFolder))
    await createAvatar(avatarFolder, { clip, motion: motionPath, onProgress: o.onProgress, signal: o.signal });
  const avatar = Avatar.open(avatarFolder);
  const face = o.face ?? true;
  const training = (share: number) => ({
    minutes: o.steps ? undefined : (o.minutes ?? 7) * share,
    steps: o.steps,
    onProgress: o.onProgress,
    signal: o.signal,
  });
  if (!avatar.trained) await trainBody(avatar, training(face ? 1 - headShare : 1));
  if (face && !avatar.headTrained) await trainHead(avatar, training(headShare));

  // A speech it never gave, by the same body.
  const unseen = speechMotion(o.seconds ?? 5, fps, 2);
  unseen.camera = camera;
  const speech = join(folder, "new-speech.npz");
  const sound = join(folder, "new-speech.wav");
  saveMotion(speech, unseen);
  writeFileSync(sound, speechSound(unseen, 2));
  const video = join(folder, "video.mp4");
  const result = await animate(avatar, { motion: speech, audio: sound, out: video, face, onProgress: o.onProgress, signal: o.signal });

  // Beside the presenter really giving that speech, where the animation placed it.
  const presenter = new Presenter(filmedSize);
  const size = avatar.info.resolution;
  const renderer = new ConditionRenderer(avatar.info.bodyModel, camera, size, avatar.info.conditionStyle);
  const placed = retarget(renderer, unseen, learnt);
  const rows: RgbImage[][] = [];
  const made: Uint8Array[] = [];
  const truth: Uint8Array[] = [];
  for (let r = 0; r < 8; r++) {
    const i = Math.floor(((r + 0.5) * unseen.frames) / 8);
    const generated = await readImage(join(result.folder, "frames", frameName(i)));
    const real = resizePil(presenter.frame(placed, i), size, size, "bicubic");
    made.push(toPlanes(generated));
    truth.push(toPlanes(real));
    if (r % 2 === 0) rows.push([renderer.render(placed, i), generated, real]);
  }
  renderer.dispose();
  presenter.dispose();
  const contactSheet = join(folder, "contact-sheet.png");
  await writeSheet(contactSheet, rows, 256);
  const out: DemoResult = {
    clip,
    video,
    contactSheet,
    avatar: avatarFolder,
    unseen: score(made, truth, size, null),
    seconds: (performance.now() - started) / 1000,
  };
  writeJson(join(folder, "demo.json"), out);
  return out;
}
