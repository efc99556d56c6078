/** `animate`: an avatar performs a motion, or ready condition frames, as a video. */
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { loadMotion, resampleMotion, sliceMotion, type Motion } from "@make-your-anchor/body";
import { FaceLog, type FaceCounts } from "./head/face-log.ts";
import { readImage, VideoWriter, writePng, type RgbImage } from "@make-your-anchor/media";
import { Avatar, toolVersion } from "./avatar.ts";
import { viewOf, type View } from "./background.ts";
import { bodyModel } from "./body-models.ts";
import { chooseCompute, peakGpuMiB, startPeak, type Compute, type ComputeOptions, type Precision } from "./compute.ts";
import { ConditionRenderer } from "./conditions.ts";
import { AnchorError } from "./errors.ts";
import { frameName, makeFolder, pictureFiles, readJson, writeError, writeJson } from "./files.ts";
import { generateFrames, type GenerateOptions } from "./generate.ts";
import { openParser, prepareHeads } from "./head/heads.ts";
import { paintHeads, paintingSteps, type PaintOptions } from "./head/paint.ts";
import { motionHeads, pictureHeads, scrfdAsDetector, type HeadSource } from "./head/source.ts";
import { checkStrength, faceStrength } from "./head/strength.ts";
import { fitClip } from "./fit-clip.ts";
import { observeClip } from "./observe.ts";
import type { WorkOptions } from "./progress.ts";
import { retarget } from "./retarget.ts";
import { weightsMark } from "./weights-mark.ts";

export interface AnimateOptions extends WorkOptions, ComputeOptions {
  /** A motion file (.npz, .npy), another avatar's folder, or a clip. */
  motion?: string;
  /** A folder of ready condition pictures instead of a motion. */
  conditions?: string;
  /** Where the video goes; default `videos/<name>/video.mp4` in the avatar's folder. */
  out?: string;
  /** Sound to put under the video; default the sound of the clip that the motion comes from. */
  audio?: string;
  /** Frames a second of ready conditions; default the avatar's. */
  fps?: number;
  /** Only the first so many frames. */
  frames?: number;
  /** `"reference"`: the original's settings, whatever the preset. */
  sampling?: GenerateOptions["sampling"];
  sampler?: GenerateOptions["sampler"];
  eta?: number;
  steps?: number;
  guidanceScale?: number;
  /** What guidance leads away from, in words (presets with a text encoder). */
  negativePrompt?: string;
  seed?: number;
  windowSize?: number;
  windowOverlap?: number;
  /** Paints the face anew where a head model is trained. Default true. */
  face?: boolean;
  /** `"perFrame"` paints each face by itself, as the original does. */
  faceTemporal?: Exclude<PaintOptions["temporal"], "apart">;
  /** How much of the painted face is shown, 0 (nothing is painted) to 1; default what is nearest to the truth on held-out frames, see `faceStrength`. */
  faceStrength?: number;
  facePaste?: PaintOptions["paste"];
  /** SCRFD as ONNX, to find faces in ready condition pictures; default the detector that comes with the tool. */
  faceDetector?: string;
  /** Renders every frame anew. */
  fresh?: boolean;
}

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

interface Source {
  frames: number;
  fps: number;
  audio?: string;
  condition: (i: number) => RgbImage | Promise<RgbImage>;
  view?: (i: number) => View | undefined;
  /** Where the head stage finds faces. */
  heads: (bodyFrame: (i: number) => Promise<RgbImage>) => HeadSource | Promise<HeadSource>;
  /** What the frames depend on. */
  identity: string;
  notes: string[];
  dispose: () => void;
}

const videoExtensions = new Set([".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"]);

async function openSource(avatar: Avatar, o: AnimateOptions): Promise<Source> {
  if ((o.motion === undefined) === (o.conditions === undefined))
    throw new AnchorError("OPTION", "give either a motion (--motion FILE) or ready condition pictures (--conditions FOLDER)", {
      misuse: true,
    });
  if (o.conditions !== undefined) {
    const files = pictureFiles(o.conditions);
    if (files.length === 0) throw new AnchorError("NO_CONDITIONS", `${o.conditions}: no pictures there (.png, .jpg, .webp)`);
    const marks = files.map((f) => `${basename(f)}:${statSync(f).size}`).join();
    return {
      frames: files.length,
      fps: o.fps ?? avatar.info.fps,
      condition: (i) => readImage(files[i]),
      heads: async (bodyFrame) =>
        pictureHeads(
          avatar,
          (i) => readImage(files[i]),
          bodyFrame,
          o.faceDetector === undefined ? undefined : await scrfdAsDetector(o.faceDetector),
        ),
      identity: `conditions ${resolve(o.conditions)} ${marks}`,
      notes: [],
      dispose: () => {},
    };
  }
  const path = o.motion!;
  const own = loadMotion(avatar.motionPath);
  const notes: string[] = [];
  let motion: Motion;
  let audio: string | undefined;
  // The clip's own motion brings its camera's movement along; every other is before a steady one.
  let follows = resolve(path) === resolve(avatar.motionPath);
  if (existsSync(path) && statSync(path).isDirectory()) {
    const other = Avatar.open(path);
    motion = loadMotion(other.motionPath);
    follows = resolve(path) === resolve(avatar.folder);
    audio = other.audioPath;
  } else if (!existsSync(path)) {
    throw new AnchorError("FILE", `${path}: no such file or avatar`, { misuse: true });
  } else if (videoExtensions.has(extname(path).toLowerCase())) {
    const seen = await observeClip(path, o);
    const fitted = await fitClip(path, bodyModel(avatar.info.bodyModel), seen, o);
    motion = fitted.motion;
    audio = seen.info.hasAudio ? path : undefined;
  } else {
    motion = loadMotion(path);
  }
  if (motion.space === "smplx" && avatar.info.bodyModel === "mannequin" && motion.expressionWidth > 0) {
    notes.push("the motion's facial expression is SMPL-X's and means nothing to the mannequin: of the face only jaw and eyes move");
  }
  motion = resampleMotion(motion, avatar.info.fps);
  if (o.frames !== undefined) motion = sliceMotion(motion, 0, Math.min(motion.frames, o.frames));
  const renderer = new ConditionRenderer(avatar.info.bodyModel, own.camera!, avatar.info.resolution, avatar.info.conditionStyle);
  const placed = retarget(renderer, motion, own);
  if (!follows) placed.views = undefined;
  const hash = createHash("sha256");
  for (const a of [
    placed.transl,
    placed.globalOrient,
    placed.bodyPose,
    placed.jawPose,
    placed.leftHandPose,
    placed.rightHandPose,
    placed.expression,
    ...(placed.views ? [placed.views] : []),
  ])
    hash.update(a);
  return {
    frames: placed.frames,
    fps: avatar.info.fps,
    audio,
    condition: (i) => renderer.render(placed, i, { betas: own.betas }),
    view: (i) => viewOf(placed, i, avatar.info.resolution),
    heads: () => motionHeads(avatar, placed, own.betas),
    identity: `motion ${hash.digest("hex")}`,
    notes,
    dispose: () => renderer.dispose(),
  };
}

interface Rendering {
  count: number;
  /** Frames finished before. */
  reused: number;
  framesFolder: string;
  /** Where body frames go: `framesFolder` itself where no face is painted. */
  bodyFolder: string;
  compute: Compute;
  /** Null where no face is painted. */
  faces: FaceLog | null;
  strength: number;
}

/** Both stages, frame by frame to the disk; the head stage draws the body frames it needs out of the body stage. @returns the largest resident memory */
async function renderFrames(avatar: Avatar, source: Source, o: AnimateOptions, r: Rendering): Promise<number> {
  const { count, framesFolder, bodyFolder, compute, faces, strength } = r;
  let peak = process.memoryUsage.rss();
  const save = async (folder: string, index: number, image: RgbImage) => {
    await writePng(join(folder, frameName(index)), image);
    peak = Math.max(peak, process.memoryUsage.rss());
  };
  let bodyDone = 0;
  while (bodyDone < count && existsSync(join(bodyFolder, frameName(bodyDone)))) bodyDone++;
  // Both stages count windows times steps.
  const done = { body: 0, head: 0 };
  const totals = { body: 0, head: faces ? paintingSteps(avatar, { frames: count, temporal: o.faceTemporal, steps: o.steps }) : 0 };
  const progress = (stage: "body" | "head") => (n: number, total: number) => {
    [done[stage], totals[stage]] = [n, total];
    o.onProgress?.({ stage: "rendering", done: done.body + done.head, total: totals.body + totals.head });
  };
  const generated = generateFrames(avatar, {
    ...compute,
    frames: count,
    condition: source.condition,
    view: source.view,
    sampling: o.sampling,
    sampler: o.sampler,
    eta: o.eta,
    steps: o.steps,
    guidanceScale: o.guidanceScale,
    negativePrompt: o.negativePrompt,
    seed: o.seed,
    windowSize: o.windowSize,
    windowOverlap: o.windowOverlap,
    firstFrame: bodyDone,
    signal: o.signal,
    onProgress: progress("body"),
  });
  const bodyFrame = async (i: number): Promise<RgbImage> => {
    while (bodyDone <= i) {
      const next = await generated.next();
      if (next.done) throw new AnchorError("FRAMES", `the body stage ended at frame ${bodyDone} of ${count}`);
      await save(bodyFolder, next.value.index, next.value.image);
      bodyDone = next.value.index + 1;
    }
    return readImage(join(bodyFolder, frameName(i)));
  };
  try {
    if (!faces) {
      await bodyFrame(count - 1);
      return peak;
    }
    // Kept from training; an imported head has none yet.
    const { parser: parserPath } = await prepareHeads(avatar, { signal: o.signal, onProgress: o.onProgress });
    using parser = parserPath ? openParser(avatar, parserPath, compute.device) : undefined;
    const heads = await source.heads(bodyFrame);
    try {
      const painted = paintHeads(avatar, {
        ...compute,
        frames: count,
        bodyFrame,
        condition: heads.condition,
        sight: heads.sight,
        parse: parser && ((image) => parser.mask(image)),
        temporal: o.faceTemporal,
        strength,
        paste: o.facePaste,
        steps: o.steps,
        seed: o.seed,
        firstFrame: r.reused,
        signal: o.signal,
        onProgress: progress("head"),
      });
      for await (const { index, image, face } of painted) {
        faces.add(index, face);
        await save(framesFolder, index, image);
      }
    } finally {
      await heads.close();
    }
    return peak;
  } finally {
    await generated.return();
  }
}

async function chosenStrength(avatar: Avatar, compute: Compute, source: Source, o: WorkOptions): Promise<number> {
  const { strength, frames } = await faceStrength(avatar, { ...compute, signal: o.signal, onProgress: o.onProgress });
  if (strength === 0)
    source.notes.push(
      `on ${frames} held-out frames the painted face was no nearer to the truth than the body model's, so none is painted (--face-strength 1 paints it all the same)`,
    );
  return strength;
}

/** Renders a video. Frames reach the disk as they are finished; interrupted, the same call goes on behind the last of them. */
export async function animate(avatar: Avatar, o: AnimateOptions): Promise<AnimateResult> {
  const started = performance.now();
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
  const compute = chooseCompute(o, "rendering");
  const wanted = o.face ?? true;
  const source = await openSource(avatar, o);
  if (wanted && !avatar.headTrained)
    source.notes.push(
      `no head model is trained, so faces are as the body model renders them ("anchor train ${avatar.info.name} head" makes one)`,
    );
  try {
    const strength = wanted && avatar.headTrained ? (o.faceStrength ?? (await chosenStrength(avatar, compute, source, o))) : 0;
    const withFace = strength > 0;
    startPeak(compute);
    const count = Math.min(source.frames, o.frames ?? source.frames);
    const name = o.out ? basename(o.out, extname(o.out)) : basename(o.motion ?? o.conditions!).replace(/\.[^.]+$/, "");
    const folder = makeFolder(avatar.path("videos", name));
    const framesFolder = join(folder, "frames");
    const video = o.out ? resolve(o.out) : join(folder, "video.mp4");
    if (!existsSync(dirname(video))) throw new AnchorError("FILE", `${dirname(video)}: no such folder for the video`, { misuse: true });
    const identity = createHash("sha256")
      .update(
        JSON.stringify([
          source.identity,
          weightsMark(avatar, "body"),
          compute,
          o.sampling,
          o.sampler,
          o.eta,
          o.steps,
          o.guidanceScale,
          o.negativePrompt,
          o.seed,
          o.windowSize,
          o.windowOverlap,
          count,
        ]),
      )
      .digest("hex");
    const faceIdentity = withFace
      ? createHash("sha256")
          .update(`${weightsMark(avatar, "head")} ${strength} ${o.faceTemporal} ${o.facePaste} ${o.faceDetector}`)
          .digest("hex")
      : null;
    const jobPath = join(folder, "job.json");
    const bodyFolder = withFace ? join(folder, "body") : framesFolder;
    const job = existsSync(jobPath) ? (readJson(jobPath) as { identity?: string; faceIdentity?: string | null }) : {};
    const sameBody = !o.fresh && job.identity === identity;
    const same = sameBody && (job.faceIdentity ?? null) === faceIdentity;
    if (!same) {
      rmSync(framesFolder, { recursive: true, force: true });
      if (!sameBody) rmSync(bodyFolder, { recursive: true, force: true });
      writeJson(jobPath, { identity, faceIdentity });
    }
    makeFolder(framesFolder);
    makeFolder(bodyFolder);
    let reused = 0;
    while (reused < count && existsSync(join(framesFolder, frameName(reused)))) reused++;
    const facesPath = join(folder, "faces.jsonl");
    if (!withFace) rmSync(facesPath, { force: true });
    const faces = withFace ? new FaceLog(facesPath, reused) : null;
    const peak =
      reused < count ? await renderFrames(avatar, source, o, { count, reused, framesFolder, bodyFolder, compute, faces, strength }) : 0;

    const audio = o.audio ?? source.audio;
    const size = avatar.info.resolution;
    const inside = join(folder, "video.mp4");
    const writer = new VideoWriter(inside, { width: size, height: size, fps: source.fps, audio });
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
    if (video !== inside) {
      const temporary = `${video}.${process.pid}.tmp`;
      try {
        copyFileSync(inside, temporary);
        renameSync(temporary, video);
      } catch (cause) {
        rmSync(temporary, { force: true });
        throw writeError(video, cause);
      }
    }
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
    if (withFace) rmSync(bodyFolder, { recursive: true, force: true }); // served to go on behind it
    return result;
  } finally {
    source.dispose();
  }
}
