/** What is kept of an animation under way: its finished frames, in a folder of the avatar's, and what they depend on. */
import { createHash } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { frameName, makeFolder, readJson, writeJson } from "../files.ts";
import { FaceLog } from "../head/face-log.ts";

export interface RenderJob {
  framesFolder: string;
  /** Where body frames go: `framesFolder` itself where no face is painted. */
  bodyFolder: string;
  /** Frames finished before. */
  reused: number;
  /** Null where no face is painted. */
  faces: FaceLog | null;
}

const mark = (of: string): string => createHash("sha256").update(of).digest("hex");

/**
 * Goes on behind frames that were made from the same; others are removed.
 * @param count how many frames there will be
 * @param body  what body frames depend on
 * @param face  what painted ones depend on beside it; null where no face is painted
 */
export function openJob(folder: string, count: number, body: string, face: string | null, fresh = false): RenderJob {
  const path = join(folder, "job.json");
  const framesFolder = join(folder, "frames");
  const bodyFolder = face === null ? framesFolder : join(folder, "body");
  const [identity, faceIdentity] = [mark(body), face === null ? null : mark(face)];
  const found = existsSync(path) ? (readJson(path) as { identity?: string; faceIdentity?: string | null }) : {};
  const sameBody = !fresh && found.identity === identity;
  if (!(sameBody && (found.faceIdentity ?? null) === faceIdentity)) {
    rmSync(framesFolder, { recursive: true, force: true });
    if (!sameBody) rmSync(bodyFolder, { recursive: true, force: true });
    writeJson(path, { identity, faceIdentity });
  }
  makeFolder(framesFolder);
  makeFolder(bodyFolder);
  let reused = 0;
  while (reused < count && existsSync(join(framesFolder, frameName(reused)))) reused++;
  const log = join(folder, "faces.jsonl");
  if (face === null) rmSync(log, { force: true });
  return { framesFolder, bodyFolder, reused, faces: face === null ? null : new FaceLog(log, reused) };
}
