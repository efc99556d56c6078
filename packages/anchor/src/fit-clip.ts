/** The body fit of a clip: to the landmarks that were found in it, then to its pictures; part by part, where it is long. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { decodeVideo } from "@make-your-anchor/media";
import {
  anyoneSeen,
  fitMotion,
  fitParts,
  fitReport,
  joinMotions,
  loadMotion,
  readNpz,
  saveMotion,
  writeNpz,
  type BodyModelData,
  type FitPart,
  type FitPictures,
  type FitReport,
  type FitStage,
  type FrameLandmarks,
  type Motion,
} from "@make-your-anchor/body";
import { toPlanes } from "./dataset.ts";
import { readJson, writeJson } from "./files.ts";
import { observedSize, type Observation } from "./observe.ts";
import type { WorkOptions } from "./progress.ts";

/** Side of the pictures that are fitted to, pixels. */
const pictureSize = 128;
/** Most of them in a part: of a longer one every second frame is looked at; those between follow by smoothness. */
const mostPictures = 1500;
/** Frames that are fitted as one, a minute of most clips: memory is bounded by them. */
const partLength = 1800;
/** Most frames in which one part goes over into the next; a quarter of a short one. */
const mostOverlap = 30;

export interface FitClipOptions extends WorkOptions {
  /** Where fitted parts, and the finished stages of the one under way, are kept until all are, and what tells the fit from another: an interrupted one goes on behind them. */
  keep: { folder: string; of: string };
  /** Default 1800. */
  partLength?: number;
}

/**
 * The motion of a whole clip. Interrupted, the same call goes on behind the parts that were fitted, and the stages of the part under way.
 * @param path the clip `seen` was seen in
 * @throws {BodyError} `FIT` where nobody is seen in any frame
 */
export async function fitClip(
  path: string,
  data: BodyModelData,
  seen: Observation,
  o: FitClipOptions,
): Promise<{ motion: Motion; report: FitReport }> {
  const { crop, fps, frames } = seen;
  const length = o.partLength ?? partLength;
  const parts = fitParts(frames, length, Math.min(mostOverlap, Math.floor(length / 4)));
  const landmarksOf = ({ from, to }: FitPart) => Array.from({ length: to - from }, (_, k) => seen.landmarks(from + k));
  const of = JSON.stringify([o.keep.of, parts]);
  const mark = join(o.keep.folder, "parts.json");
  if (!existsSync(mark) || (readJson(mark) as { of: string }).of !== of) rmSync(o.keep.folder, { recursive: true, force: true });
  const file = (k: number, kind = "") => join(o.keep.folder, `${String(k + 1).padStart(4, "0")}${kind}.npz`);
  const kept = parts.map((_, k) => existsSync(file(k)));

  const every = Math.ceil(Math.max(...parts.map(({ from, to }) => to - from)) / mostPictures);
  const video = decodeVideo(path, { fps, crop, width: pictureSize, height: pictureSize, signal: o.signal });
  let read = 0;
  let pictures: { frame: number; planes: Uint8Array }[] = [];
  /** Reads on to a part's end, and keeps what it is fitted to. */
  const picturesOf = async ({ from, to }: FitPart, landmarks: readonly FrameLandmarks[]): Promise<FitPictures> => {
    pictures = pictures.filter(({ frame }) => frame >= from);
    for (; read < to; read++) {
      const { value, done } = await video.next();
      if (done) break;
      // Where the person is not to be seen, the picture shows something else.
      if (read < from || read % every !== 0) continue;
      const { body, face } = landmarks[read - from];
      if (face !== undefined || body.some(Boolean)) pictures.push({ frame: read, planes: toPlanes(value) });
    }
    return { size: pictureSize, frames: pictures.map((p) => p.frame - from), planes: pictures.map((p) => p.planes) };
  };

  const motions: (Motion | undefined)[] = [];
  let betas: Float32Array | undefined;
  let before = 0;
  try {
    for (const [k, part] of parts.entries()) {
      if (!kept[k]) {
        const landmarks = landmarksOf(part);
        const last = k === parts.length - 1 && !motions.some(Boolean); // nobody anywhere: the fit says so
        if (!anyoneSeen(landmarks) && !last) {
          motions.push(undefined);
          continue;
        }
        const stage = file(k, ".stage");
        const left = kept.slice(k).filter((is) => !is).length;
        let steps = 0;
        const motion = await fitMotion(data, landmarks, {
          width: observedSize,
          height: observedSize,
          fps,
          pictures: await picturesOf(part, landmarks),
          betas,
          resume: existsSync(stage) ? readStage(stage) : undefined,
          onStage: (s) => {
            writeJson(mark, { of });
            writeStage(stage, s);
          },
          signal: o.signal,
          onProgress: (done, total) => {
            steps = total;
            o.onProgress?.({ stage: "fitting the body", done: before + done, total: before + left * total });
          },
        });
        before += steps;
        saveMotion(file(k), motion);
        rmSync(stage, { force: true });
      }
      const motion = loadMotion(file(k));
      betas ??= motion.betas;
      motions.push(motion);
    }
  } finally {
    await video.return();
  }
  const motion = joinMotions(parts, motions);
  return { motion, report: fitReport(data, motion, landmarksIn(seen)) };
}

function writeStage(path: string, { stages, values }: FitStage): void {
  const arrays = [["stages", Float32Array.of(stages)] as const, ...values];
  writeNpz(path, new Map(arrays.map(([name, data]) => [name, { shape: [data.length], data }])));
}

function readStage(path: string): FitStage {
  const arrays = readNpz(path);
  const values = new Map([...arrays].map(([name, { data }]) => [name, Float32Array.from(data as Float32Array)]));
  return { stages: values.get("stages")![0], values };
}

function* landmarksIn({ frames, landmarks }: Observation): Generator<FrameLandmarks> {
  for (let i = 0; i < frames; i++) yield landmarks(i);
}
