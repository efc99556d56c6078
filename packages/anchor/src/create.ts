/** `create`: footage to an avatar folder with frames, motion and condition frames. */
import { existsSync, renameSync, rmSync } from "node:fs";
import { basename, resolve } from "node:path";
import { decodeVideo, extractAudio, probeVideo, writePng } from "@make-your-anchor/media";
import { BodyError, loadMotion, saveMotion, type FitReport, type Motion } from "@make-your-anchor/body";
import { Avatar, type AvatarInfo } from "./avatar.ts";
import { bodyModel } from "./body-models.ts";
import { claim } from "./claim.ts";
import { conditionStyles, ConditionRenderer, type ConditionStyle } from "./conditions.ts";
import { followCamera } from "./draft/camera-move.ts";
import { AnchorError } from "./errors.ts";
import { fileStamp, makeFolder, readJson, writeJson } from "./files.ts";
import { fitClip } from "./fit-clip.ts";
import { observeClip } from "./observe.ts";
import { presets, type PresetName } from "./presets.ts";
import type { WorkOptions } from "./progress.ts";
import { toolVersion } from "./version.ts";

export interface CreateOptions extends WorkOptions {
  clip: string;
  preset?: PresetName;
  /** `"mannequin"` (default) or a path to an SMPL-X .npz. */
  bodyModel?: string;
  /** A motion file of exactly this clip, with its camera, instead of fitting the body: the whole picture is the avatar's. */
  motion?: string;
  /** How condition frames show the mesh; default the preset's. Published weights know "shaded" alone. */
  conditionStyle?: ConditionStyle;
  /** Replaces an avatar of that name. */
  force?: boolean;
}

/** Errors of a clip that cannot become an avatar, however often it is tried. */
const uselessClip = new Set(["NO_PERSON", "TWO_PEOPLE", "TOO_SHORT"]);

/** Share of the clip's end that is never trained on. */
const heldOutShare = 0.2;

/** What the slow steps found; kept until the avatar is whole, so that an interrupted creation goes on behind them. */
interface Fitted {
  clip: string;
  preset: PresetName;
  bodyModel: string;
  info: Omit<AvatarInfo, "created">;
}
const nullable = (s: { median: number; p95: number }) => ({
  median: Number.isFinite(s.median) ? s.median : null,
  p95: Number.isFinite(s.p95) ? s.p95 : null,
});

/**
 * Makes an avatar folder from a clip. Interrupted, the same call goes on where it stopped.
 * @throws {AnchorError} when the clip holds no person, two, or too few frames; nothing is left behind then
 */
export async function createAvatar(folder: string, o: CreateOptions): Promise<Avatar> {
  const preset = presets[o.preset ?? "mini"];
  const style = o.conditionStyle ?? preset.conditionStyle;
  if (!conditionStyles.includes(style))
    throw new AnchorError("OPTION", `conditionStyle: expected ${conditionStyles.join(" or ")}, got "${String(style)}"`, { misuse: true });
  const modelName = o.bodyModel && o.bodyModel !== "mannequin" ? resolve(o.bodyModel) : "mannequin";
  if (Avatar.exists(folder) && !o.force) {
    throw new AnchorError("EXISTS", `${folder}: there is an avatar already: choose another name, or replace it with --force`, {
      misuse: true,
    });
  }
  const data = bodyModel(modelName); // fails early on an unusable file
  const work = `${folder}.creating`;
  using _ = claim(`${work}.lock`, `${folder} is being created`);
  const seenPath = `${work}/detections.jsonl`;
  const partsFolder = `${work}/fit`;
  const fittedPath = `${work}/fitted.json`;
  const source = resolve(o.clip);
  const clip = fileStamp(source);
  const found = existsSync(fittedPath) ? (readJson(fittedPath) as Fitted) : undefined;
  const same = found?.clip === clip && found.preset === preset.name && found.bodyModel === modelName;
  const fitted = same && existsSync(`${work}/motion.npz`) ? found : undefined;
  const begun = existsSync(seenPath) || fitted;
  if (!begun) rmSync(work, { recursive: true, force: true });
  else if (fitted?.info.conditionStyle !== style) rmSync(`${work}/conditions`, { recursive: true, force: true }); // of another fit or style
  try {
    return await finish(fitted ? { ...fitted.info, conditionStyle: style } : await observeAndFit());
  } catch (error) {
    // A clip that cannot become an avatar leaves nothing; what an interruption finished is kept.
    const useless = error instanceof BodyError || (error instanceof AnchorError && uselessClip.has(error.code));
    if (useless || ![seenPath, fittedPath].some((path) => existsSync(path))) rmSync(work, { recursive: true, force: true });
    throw error;
  }

  async function observeAndFit(): Promise<Omit<AvatarInfo, "created">> {
    const { motion, report, info, crop, unseen } = o.motion ? await given(o.motion) : await fit();
    makeFolder(`${work}/clip/frames`);
    saveMotion(`${work}/motion.npz`, motion);
    const { frames, fps } = motion;
    const found: Omit<AvatarInfo, "created"> = {
      format: 1,
      name: basename(folder),
      preset: preset.name,
      resolution: preset.resolution,
      fps,
      frames,
      heldOutFrom: Math.max(1, Math.min(frames - 1, Math.round(frames * (1 - heldOutShare)))),
      unseen,
      bodyModel: modelName,
      conditionStyle: style,
      clip: { source, crop, hasAudio: info.hasAudio },
      fit: { body: nullable(report.body), hands: nullable(report.hands), face: nullable(report.face), bridged: report.bridged },
      tool: toolVersion,
    };
    writeJson(fittedPath, { clip, preset: preset.name, bodyModel: modelName, info: found } satisfies Fitted);
    return found;
  }

  async function fit() {
    const seen = await observeClip(source, { ...o, keep: { path: seenPath, clip } });
    const keep = { folder: partsFolder, of: JSON.stringify([clip, modelName, toolVersion]) };
    const fitted = await fitClip(source, data, seen, { ...o, keep });
    const unseen = { person: [] as number[], face: [] as number[] };
    for (let i = 0; i < seen.frames; i++) {
      const { face, body } = seen.landmarks(i);
      if (face) continue;
      unseen.face.push(i);
      if (!body.some(Boolean)) unseen.person.push(i);
    }
    return { ...fitted, info: seen.info, crop: seen.crop, unseen: unseen.face.length > 0 ? unseen : undefined };
  }

  async function given(path: string) {
    const info = await probeVideo(source);
    const motion: Motion = loadMotion(path);
    if (!motion.camera)
      throw new AnchorError(
        "NO_CAMERA",
        `${path}: the motion has no camera, so the mesh cannot be laid over the clip; leave --motion out and let the body be fitted`,
        { misuse: true },
      );
    if (info.width !== info.height)
      throw new AnchorError(
        "NOT_SQUARE",
        `${source}: a clip that comes with its own motion must be square, it is ${info.width}x${info.height}`,
        { misuse: true },
      );
    const none = { median: Number.NaN, p95: Number.NaN };
    const report: FitReport = { body: none, hands: none, face: none, bridged: { body: 0, leftHand: 0, rightHand: 0, face: 0 } };
    return { motion, report, info, crop: { x: 0, y: 0, width: info.width, height: info.height }, unseen: undefined };
  }

  async function finish(info: Omit<AvatarInfo, "created">): Promise<Avatar> {
    const avatar = new Avatar(work, { ...info, created: new Date().toISOString() });
    const motion = loadMotion(avatar.motionPath);
    makeFolder(avatar.path("conditions"));
    const renderer = new ConditionRenderer(modelName, motion.camera!, preset.resolution, info.conditionStyle);
    try {
      let i = 0;
      const size = preset.resolution;
      for await (const frame of decodeVideo(source, { fps: info.fps, crop: info.clip.crop, width: size, height: size, signal: o.signal })) {
        if (i >= info.frames) break;
        await writePng(avatar.frame(i), frame);
        if (!existsSync(avatar.condition(i))) await writePng(avatar.condition(i), renderer.render(motion, i));
        i++; // not among the arguments: without a listener they are never looked at
        o.onProgress?.({ stage: "drawing conditions", done: i, total: info.frames });
      }
      if (i < info.frames)
        throw new AnchorError(
          "CLIP_CHANGED",
          `${source}: ${i} frames where ${info.frames} were before: did the clip change? Type the command again`,
        );
    } finally {
      renderer.dispose();
    }
    if (preset.models) await followCamera(avatar, motion, o); // published weights paint from no drafts
    if (info.clip.hasAudio) await extractAudio(source, avatar.path("clip", "audio.wav"));
    avatar.save();
    for (const path of [seenPath, partsFolder, fittedPath]) rmSync(path, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
    renameSync(work, folder);
    return Avatar.open(folder);
  }
}
