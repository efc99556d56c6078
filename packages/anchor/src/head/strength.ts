/**
 * How much of a painted face to show. Body and head are two opinions on one face: where both are wrong in ways of their own, a mean of them is nearer
 * to the truth than either, and a head that was trained for minutes may be no better than a body that was trained for long. Held-out frames that
 * the choice of the weights looked at already say how much is best.
 */
import { existsSync } from "node:fs";
import { loadMotion } from "@make-your-anchor/body";
import { readImage, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { viewOf } from "../draft/view.ts";
import type { ComputeOptions } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { readJson, writeJson } from "../files.ts";
import { generateFrames } from "../generate.ts";
import { validatedFrames } from "../models/provenance.ts";
import type { WorkOptions } from "../progress.ts";
import { weightsMark } from "../weights-mark.ts";
import { maskParser } from "./heads.ts";
import { paintHeads } from "./paint.ts";
import { motionHeads } from "./source.ts";

export interface FaceStrength {
  /** 0: the body's face alone, and nothing is to be painted; 1: the painted one alone. */
  strength: number;
  /** How many held-out frames said so; none: it is taken to be 1. */
  frames: number;
  /** Of those frames where the face is painted, against the truth, dB: the body's face, the painted one, and what is shown; null without frames. */
  psnr: { body: number; painted: number; shown: number } | null;
}

/** Below it painting is left out: it costs as much as the body does. */
const least = 0.1;

/** Sums over channels: what painting changed (d) and what it should have changed (r). */
interface Sums {
  dd: number;
  dr: number;
  rr: number;
  count: number;
}

/** Adds up where a painted frame differs from the body's. */
export function addSums(s: Sums, body: RgbImage, painted: RgbImage, truth: RgbImage): void {
  for (let i = 0; i < body.data.length; i++) {
    const d = painted.data[i] - body.data[i];
    if (d === 0) continue;
    const r = truth.data[i] - body.data[i];
    s.dd += d * d;
    s.dr += d * r;
    s.rr += r * r;
    s.count++;
  }
}

/** The strength whose frames have the smallest squared error, and what it and both ends come to. */
export function bestStrength({ dd, dr, rr, count }: Sums, frames: number): FaceStrength {
  if (count === 0) return { strength: 1, frames: 0, psnr: null };
  const best = Math.min(1, Math.max(0, Math.round((100 * dr) / dd) / 100));
  const strength = best < least ? 0 : best;
  const psnr = (w: number) => 10 * Math.log10(255 ** 2 / Math.max(1e-3, (rr - 2 * w * dr + w * w * dd) / count));
  return { strength, frames, psnr: { body: psnr(0), painted: psnr(1), shown: psnr(strength) } };
}

/** @throws {AnchorError} `OPTION` for a strength outside 0..1 */
export function checkStrength(v: number | undefined): void {
  if (v !== undefined && !(v >= 0 && v <= 1))
    throw new AnchorError("OPTION", `face strength: expected a number from 0 to 1, got ${v}`, { misuse: true });
}

/** Looked at once for the weights as they are, and kept in `head/strength.json`. */
export async function faceStrength(avatar: Avatar, o: ComputeOptions & WorkOptions = {}): Promise<FaceStrength> {
  const path = avatar.path("head", "strength.json");
  const madeFrom = `${weightsMark(avatar, "body")} ${weightsMark(avatar, "head")}`;
  if (existsSync(path)) {
    const found = readJson(path) as FaceStrength & { madeFrom: string };
    if (found.madeFrom === madeFrom) return { strength: found.strength, frames: found.frames, psnr: found.psnr };
  }
  const frames = [...validatedFrames(avatar, "head")].filter((f) => avatar.showsFace(f)).sort((a, b) => a - b);
  const result = frames.length > 0 ? await compare(avatar, frames, o) : bestStrength({ dd: 0, dr: 0, rr: 0, count: 0 }, 0);
  writeJson(path, { ...result, madeFrom });
  return result;
}

async function compare(avatar: Avatar, frames: readonly number[], { device, precision, signal, onProgress }: ComputeOptions & WorkOptions) {
  const compute = { device, precision, signal };
  const motion = loadMotion(avatar.motionPath);
  const told = (half: number) => (done: number, total: number) =>
    onProgress?.({ stage: "trying the painted face", done: Math.round(frames.length * (half + done / total)), total: 2 * frames.length });
  const bodies: RgbImage[] = [];
  for await (const { index, image } of generateFrames(avatar, {
    ...compute,
    frames: frames.length,
    condition: (i) => readImage(avatar.condition(frames[i])),
    view: (i) => viewOf(motion, frames[i], avatar.info.resolution),
    windowSize: 1,
    windowOverlap: 0,
    onProgress: told(0),
  }))
    bodies[index] = image;
  using parser = await maskParser(avatar, device, { signal, onProgress });
  const heads = motionHeads(avatar, motion);
  const sums: Sums = { dd: 0, dr: 0, rr: 0, count: 0 };
  try {
    for await (const { index, image } of paintHeads(avatar, {
      ...compute,
      frames: frames.length,
      bodyFrame: async (i) => bodies[i],
      condition: (i) => heads.condition(frames[i]),
      sight: (i) => heads.sight(frames[i]),
      parse: parser && ((picture) => parser.mask(picture)),
      temporal: "apart",
      onProgress: told(1),
    }))
      addSums(sums, bodies[index], image, await readImage(avatar.frame(frames[index])));
  } finally {
    await heads.close();
  }
  return bestStrength(sums, frames.length);
}
