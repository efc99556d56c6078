/** An avatar's head crops: `heads/` with aligned pictures, condition crops, masks and the transforms they were cut by. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { loadMotion, writeNpz } from "@make-your-anchor/body";
import { FaceTrack, type FaceState } from "@make-your-anchor/face";
import { readImage, writePng, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { ConditionRenderer } from "../conditions.ts";
import { AnchorError } from "../errors.ts";
import { frameName, makeFolder, readJson, writeJson } from "../files.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { headCrop } from "./crops.ts";
import { FaceParser } from "./parser.ts";
import { meshSight } from "./sight.ts";

export interface HeadsReport {
  /** Side of the crops, pixels. */
  size: number;
  /** How many frames' faces were seen, bridged, or left alone and why. */
  states: Partial<Record<FaceState, number>>;
  /** Frames that have a crop, in order. */
  frames: number[];
  /** The parsing network's weights that the masks come from; null: they are drawn from the landmarks. */
  parser: string | null;
}

export interface HeadsOptions extends WorkOptions {
  /** Weights of a face-parsing BiSeNet for the masks; default what the crops were made with before, else the landmarks. */
  faceParser?: string;
}

interface HeadsFile extends HeadsReport {
  madeFrom: string;
}

export const headKinds = ["aligned", "conditions", "masks"] as const;

export const headPath = (avatar: Avatar, kind: (typeof headKinds)[number], frame: number): string =>
  avatar.path("heads", kind, frameName(frame));

/** Cuts the heads out of the clip's frames; what is there and still fits is kept. */
export async function prepareHeads(avatar: Avatar, o: HeadsOptions = {}): Promise<HeadsReport> {
  const { head } = presets[avatar.info.preset];
  const { frames, resolution } = avatar.info;
  const stamp = `${head.resolution} by cubic convolution, of ${frames} frames, ${avatar.info.conditionStyle}, motion ${createHash("sha256").update(readFileSync(avatar.motionPath)).digest("hex")}`;
  const path = avatar.path("heads", "heads.json");
  const found = existsSync(path) ? (readJson(path) as HeadsFile) : undefined;
  if (found && found.madeFrom === stamp && (o.faceParser === undefined || o.faceParser === found.parser)) return found;
  const parserPath = o.faceParser ?? found?.parser ?? null;
  using parser = parserPath ? openParser(avatar, parserPath) : undefined;
  const parse = parser && ((image: RgbImage) => parser.mask(image));
  rmSync(avatar.path("heads"), { recursive: true, force: true });
  for (const kind of headKinds) makeFolder(avatar.path("heads", kind));
  const motion = loadMotion(avatar.motionPath);
  const small = new ConditionRenderer(avatar.info.bodyModel, motion.camera!, resolution);
  const large = new ConditionRenderer(avatar.info.bodyModel, motion.camera!, head.conditionSize, avatar.info.conditionStyle);
  const report: HeadsReport = { size: head.resolution, states: {}, frames: [], parser: parserPath };
  const matrices = new Float32Array(frames * 6);
  try {
    const track = new FaceTrack((i) => meshSight(small, motion, i), frames, { size: head.resolution });
    for (let i = 0; i < frames; i++) {
      o.signal?.throwIfAborted();
      const tracked = await track.at(i);
      // Where the clip does not show the face, what lies at its place is not it.
      const face = avatar.showsFace(i) ? tracked : ({ ...tracked, state: "missing", painted: false } as const);
      report.states[face.state] = (report.states[face.state] ?? 0) + 1;
      if (face.painted && face.matrix) {
        const crop = headCrop(await readImage(avatar.frame(i)), large.render(motion, i), face, head.resolution, parse);
        await writePng(headPath(avatar, "aligned", i), crop.image);
        await writePng(headPath(avatar, "conditions", i), crop.condition);
        await writePng(headPath(avatar, "masks", i), crop.mask);
        matrices.set(face.matrix, i * 6);
        report.frames.push(i);
      }
      o.onProgress?.({ stage: "cutting out heads", done: i + 1, total: frames });
    }
  } finally {
    small.dispose();
    large.dispose();
  }
  writeNpz(avatar.path("heads", "transforms.npz"), new Map([["matrix", { shape: [frames, 2, 3], data: matrices }]]));
  writeJson(path, { ...report, madeFrom: stamp } satisfies HeadsFile);
  return report;
}

/** The network the avatar's masks come from, or the reason why it cannot be used. */
function openParser(avatar: Avatar, path: string, device = "cpu"): FaceParser {
  if (!existsSync(path))
    throw new AnchorError(
      "FILE",
      `${path}: no such file; ${avatar.info.name}'s face masks come from these weights: put them back, or name others with "anchor train ${avatar.info.name} head --face-parser FILE"`,
      { misuse: true },
    );
  return new FaceParser(path, device);
}

/** The network that masks are made by where the avatar's crops were; undefined where landmarks draw them. Crops that are not there yet are cut: an imported head has none. */
export async function maskParser(avatar: Avatar, device: string | undefined, o: WorkOptions): Promise<FaceParser | undefined> {
  const { parser } = await prepareHeads(avatar, { signal: o.signal, onProgress: o.onProgress });
  return parser === null ? undefined : openParser(avatar, parser, device);
}

/** Crops of the part of the clip that may be trained on. @throws {AnchorError} `NO_FACE` where there are too few */
export function trainingHeads(avatar: Avatar, report: HeadsReport): number[] {
  const usable = report.frames.filter((i) => i < avatar.info.heldOutFrom);
  if (usable.length < fewest) {
    const why = Object.entries(report.states)
      .map(([state, n]) => `${n} ${state}`)
      .join(", ");
    throw new AnchorError(
      "NO_FACE",
      `${avatar.info.name}: the face is to be seen in ${usable.length} of the clip's frames (${why}), at least ${fewest} are needed: use a clip in which the person faces the camera`,
    );
  }
  return usable;
}
const fewest = 8;
