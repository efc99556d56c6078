/** The motion of a clip of somebody else, found once: whoever goes on with a video, or renders it anew, need not wait for detector and fit again. */
import { existsSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { loadMotion, saveMotion, type Motion } from "@make-your-anchor/body";
import { bodyModel } from "../body-models.ts";
import { fileStamp, readJson, writeJson } from "../files.ts";
import { fitClip } from "../fit-clip.ts";
import { observeClip } from "../observe.ts";
import type { WorkOptions } from "../progress.ts";
import { toolVersion } from "../version.ts";

interface Kept {
  of: string;
  hasAudio: boolean;
}

/**
 * @param bodyModelName as the avatar names its body model
 * @param folder where the motion is kept, as `motion.npz`
 * @throws {AnchorError} what `observeClip` throws
 */
export async function drivingMotion(
  path: string,
  bodyModelName: string,
  folder: string,
  o: WorkOptions,
): Promise<{ motion: Motion; hasAudio: boolean }> {
  const of = JSON.stringify([fileStamp(resolve(path)), bodyModelName, toolVersion]);
  const [motionPath, keptPath, log, parts] = ["motion.npz", "motion.json", "detections.jsonl", "fit"].map((f) => join(folder, f));
  const kept = existsSync(keptPath) && existsSync(motionPath) ? (readJson(keptPath) as Kept) : undefined;
  if (kept?.of === of) return { motion: loadMotion(motionPath), hasAudio: kept.hasAudio };
  rmSync(keptPath, { force: true });
  const seen = await observeClip(path, { ...o, keep: { path: log, clip: of } });
  const { motion } = await fitClip(path, bodyModel(bodyModelName), seen, { ...o, keep: { folder: parts, of } });
  saveMotion(motionPath, motion);
  const { hasAudio } = seen.info;
  writeJson(keptPath, { of, hasAudio } satisfies Kept);
  for (const done of [log, parts]) rmSync(done, { recursive: true, force: true });
  return { motion: loadMotion(motionPath), hasAudio };
}
