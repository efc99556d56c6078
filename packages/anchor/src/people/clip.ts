/** A made-up person as a clip: what a user's footage is, with the motion known. */
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { saveMotion } from "@make-your-anchor/body";
import { VideoWriter } from "@make-your-anchor/media";
import { makeFolder } from "../files.ts";
import type { WorkOptions } from "../progress.ts";
import { Person } from "./person.ts";
import { measuringSeed } from "./stream.ts";

export interface ClipOptions extends WorkOptions {
  /** Which of those nobody is trained on, from 0. */
  person: number;
  /** Default 10. */
  seconds?: number;
  /** Default 25. */
  fps?: number;
  /** Side of the picture, pixels; default 256. */
  size?: number;
}

/** Writes `clip.mp4` and `motion.npz`, with its camera, into `folder`; a clip that is there is kept. */
export async function filmClip(folder: string, o: ClipOptions): Promise<{ clip: string; motion: string }> {
  const { seconds = 10, fps = 25, size = 256 } = o;
  makeFolder(folder);
  const [clip, motion] = [join(folder, "clip.mp4"), join(folder, "motion.npz")];
  if (existsSync(clip)) return { clip, motion };
  const frames = Math.round(seconds * fps);
  using person = new Person(measuringSeed(o.person), size, frames, fps);
  saveMotion(motion, person.motion);
  const part = join(folder, "part.mp4");
  const writer = new VideoWriter(part, { width: size, height: size, fps, crf: 12 });
  try {
    for (let f = 0; f < frames; f++) {
      o.signal?.throwIfAborted();
      await writer.write(person.picture(f));
      o.onProgress?.({ stage: `filming person ${o.person}`, done: f + 1, total: frames });
    }
    await writer.close();
  } catch (error) {
    await writer.abort();
    throw error;
  }
  renameSync(part, clip);
  return { clip, motion };
}
