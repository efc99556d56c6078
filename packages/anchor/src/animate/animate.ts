/** `animate`: an avatar performs a motion, or ready condition frames, as a video. */
import { copyFileSync, existsSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { readImage, requireEncoder, requireSound, VideoWriter } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { claim } from "../claim.ts";
import { chooseCompute, peakGpuMiB, startPeak, type Compute, type Precision } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { frameName, makeFolder, writeError, writeJson } from "../files.ts";
import { samplingKeys } from "../generate.ts";
import type { FaceCounts } from "../head/face-log.ts";
import { checkStrength, faceStrength } from "../head/strength.ts";
import type { WorkOptions } from "../progress.ts";
import { toolVersion } from "../version.ts";
import { weightsMark } from "../weights-mark.ts";
import { openJob } from "./job.ts";
import type { AnimateOptions } from "./options.ts";
import { renderFrames } from "./render.ts";
import { openSource, type AnimateSource } from "./source.ts";

export interface AnimateResult {
  video: string;
  folder: string;
  frames: number;
  fps: number;
  /** Frames found finished from an interrupted run. */
  reused: number;
  seconds: number;
  audio: string | null;
  /** Largest resident memory of the process while rendering, MiB. */
  peakRssMiB: number;
  device: string;
  precision: Precision;
  /** Largest memory taken on the GPU while rendering, MiB; null on the CPU and where libtorch cannot tell. */
  peakGpuMiB: number | null;
  /** How many frames' faces were painted (found, bridged), or left as they were and why; null where none was to be painted. */
  faces: FaceCounts | null;
  /** How much of the painted face is shown, 0..1; null without a head stage. */
  faceStrength: number | null;
  notes: string[];
}

function checkOptions(avatar: Avatar, o: AnimateOptions): void {
  if (!avatar.trained)
    throw new AnchorError(
      "NOT_TRAINED",
      `${avatar.info.name} has no trained body model: train it first with "anchor train ${avatar.info.name} body"`,
      { misuse: true },
    );
  for (const [name, v] of [
    ["frames", o.frames],
    ["steps", o.steps],
    ["fps", o.fps],
  ] as const) {
    if (v !== undefined && !(v > 0)) throw new AnchorError("OPTION", `${name}: expected a number above 0, got ${v}`, { misuse: true });
  }
  if (o.faceDetector !== undefined && o.conditions === undefined)
    throw new AnchorError(
      "OPTION",
      "a face detector is for ready condition pictures: a motion's face is found by its mesh, leave --face-detector out",
      {
        misuse: true,
      },
    );
  checkStrength(o.faceStrength);
  if (o.audio !== undefined && !existsSync(o.audio)) throw new AnchorError("FILE", `${o.audio}: no such sound file`, { misuse: true });
  const { out } = o;
  if (out === undefined) return;
  if (!/\.(mp4|m4v|mov)$/i.test(out))
    throw new AnchorError("OPTION", `out: expected a file whose name ends in .mp4, which is what is written, got ${out}`, { misuse: true });
  if (!existsSync(dirname(resolve(out))))
    throw new AnchorError("FILE", `${dirname(resolve(out))}: no such folder for the video`, { misuse: true });
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory())
    throw new AnchorError("OPTION", `out: expected a file, but ${out} is a folder`, { misuse: true });
}

async function chosenStrength(avatar: Avatar, compute: Compute, source: AnimateSource, o: WorkOptions): Promise<number> {
  const { strength, frames } = await faceStrength(avatar, { ...compute, signal: o.signal, onProgress: o.onProgress });
  if (strength === 0)
    source.notes.push(
      `on ${frames} held-out frames the painted face was no nearer to the truth than the body model's, so none is painted (--face-strength 1 paints it all the same)`,
    );
  return strength;
}

interface Video {
  count: number;
  size: number;
  fps: number;
  audio: string | undefined;
}

/** Finished frames become a video in the avatar's folder, `inside`, and where it was asked for. */
async function encode(
  inside: string,
  video: string,
  framesFolder: string,
  { count, size, fps, audio }: Video,
  o: WorkOptions,
): Promise<void> {
  const writer = new VideoWriter(inside, { width: size, height: size, fps, audio });
  try {
    for (let i = 0; i < count; i++) {
      o.signal?.throwIfAborted();
      await writer.write(await readImage(join(framesFolder, frameName(i))));
      if (i % 20 === 19 || i + 1 === count) o.onProgress?.({ stage: "encoding", done: i + 1, total: count });
    }
    await writer.close();
  } catch (error) {
    await writer.abort();
    throw error;
  }
  if (video === inside) return;
  const temporary = `${video}.${process.pid}.tmp`;
  try {
    copyFileSync(inside, temporary);
    renameSync(temporary, video);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw writeError(video, cause);
  }
}

/** Renders a video. Frames reach the disk as they are finished; interrupted, the same call goes on behind the last of them. */
export async function animate(avatar: Avatar, o: AnimateOptions): Promise<AnimateResult> {
  const started = performance.now();
  checkOptions(avatar, o);
  await requireEncoder();
  if (o.audio !== undefined) await requireSound(o.audio);
  const compute = chooseCompute(o, "rendering");
  const wanted = o.face ?? true;
  const name = o.out ? basename(o.out, extname(o.out)) : basename(o.motion ?? o.conditions ?? "").replace(/\.[^.]+$/, "");
  const folder = avatar.path("videos", name);
  using _ = claim(`${folder}.lock`, `${avatar.info.name}'s video ${name} is being rendered`);
  const source = await openSource(avatar, folder, o);
  if (wanted && !avatar.headTrained)
    source.notes.push(
      `no head model is trained, so faces are as the body model renders them ("anchor train ${avatar.info.name} head" makes one)`,
    );
  try {
    const strength = wanted && avatar.headTrained ? (o.faceStrength ?? (await chosenStrength(avatar, compute, source, o))) : 0;
    const withFace = strength > 0;
    startPeak(compute);
    const count = Math.min(source.frames, o.frames ?? source.frames);
    makeFolder(folder);
    const video = o.out ? resolve(o.out) : join(folder, "video.mp4");
    const job = openJob(
      folder,
      count,
      JSON.stringify([source.identity, weightsMark(avatar, "body"), compute, ...samplingKeys.map((k) => o[k]), count]),
      withFace ? `${weightsMark(avatar, "head")} ${strength} ${o.faceTemporal} ${o.facePaste} ${o.faceDetector}` : null,
      o.fresh,
    );
    const { reused, faces } = job;
    const peak = reused < count ? await renderFrames(avatar, source, o, { count, job, compute, strength }) : 0;

    const audio = o.audio ?? source.audio;
    await encode(join(folder, "video.mp4"), video, job.framesFolder, { count, size: avatar.info.resolution, fps: source.fps, audio }, o);
    const result: AnimateResult = {
      video,
      folder,
      frames: count,
      fps: source.fps,
      reused,
      seconds: (performance.now() - started) / 1000,
      audio: audio ?? null,
      peakRssMiB: Math.round(Math.max(peak, process.memoryUsage.rss()) / 2 ** 20),
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
      faces: faces?.counts ?? null,
      faceStrength: wanted && avatar.headTrained ? strength : null,
      notes: source.notes,
    };
    writeJson(join(folder, "report.json"), { tool: toolVersion, ...result });
    if (withFace) rmSync(job.bodyFolder, { recursive: true, force: true }); // served to go on behind it
    return result;
  } finally {
    source.dispose();
  }
}
