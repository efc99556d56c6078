/** Where an animation's conditions come from: a motion file, another avatar, a clip, or ready pictures. */
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { extname, resolve } from "node:path";
import { loadMotion, resampleMotion, sliceMotion, type Motion } from "@make-your-anchor/body";
import { readImage, type RgbImage } from "@make-your-anchor/media";
import { Avatar } from "../avatar.ts";
import { ConditionRenderer } from "../conditions.ts";
import { viewOf, type View } from "../draft/view.ts";
import { AnchorError } from "../errors.ts";
import { fileStamp, pictureFiles } from "../files.ts";
import { motionHeads, pictureHeads, scrfdAsDetector, type HeadSource } from "../head/source.ts";
import { retarget } from "../retarget.ts";
import { drivingMotion } from "./driving-clip.ts";
import type { AnimateOptions } from "./options.ts";

/** Frames to render, as conditions. */
export interface AnimateSource {
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

const videoExtensions = new Set("mp4 mov mkv webm avi m4v mpg mpeg ts mts m2ts wmv flv 3gp ogv mxf gif".split(" ").map((e) => `.${e}`));

/**
 * @param folder the animation's, where a clip's motion is kept
 * @throws {AnchorError} `OPTION`, `NO_CONDITIONS`, `FILE` and what opening a motion or a clip throws
 */
export async function openSource(avatar: Avatar, folder: string, o: AnimateOptions): Promise<AnimateSource> {
  if ((o.motion === undefined) === (o.conditions === undefined))
    throw new AnchorError("OPTION", "give either a motion (--motion FILE) or ready condition pictures (--conditions FOLDER)", {
      misuse: true,
    });
  if (o.conditions !== undefined) {
    const files = pictureFiles(o.conditions);
    if (files.length === 0) throw new AnchorError("NO_CONDITIONS", `${o.conditions}: no pictures there (.png, .jpg, .webp)`);
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
      identity: `conditions ${files.map((f) => fileStamp(resolve(f))).join()}`,
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
    const driving = await drivingMotion(path, avatar.info.bodyModel, folder, o);
    motion = driving.motion;
    audio = driving.hasAudio ? path : undefined;
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
