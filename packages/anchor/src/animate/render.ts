/** An animation's frames, through both stages to the disk. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readImage, writePng, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import type { Compute } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { frameName } from "../files.ts";
import { generateFrames, samplingOf } from "../generate.ts";
import { maskParser } from "../head/heads.ts";
import { paintHeads, paintingSteps } from "../head/paint.ts";
import type { RenderJob } from "./job.ts";
import type { AnimateOptions } from "./options.ts";
import type { AnimateSource } from "./source.ts";

export interface Rendering {
  /** Frames. */
  count: number;
  job: RenderJob;
  compute: Compute;
  /** See `faceStrength`. */
  strength: number;
}

/** Both stages, frame by frame to the disk; the head stage draws the body frames it needs out of the body stage. @returns the largest resident memory */
export async function renderFrames(avatar: Avatar, source: AnimateSource, o: AnimateOptions, r: Rendering): Promise<number> {
  const { count, compute, strength } = r;
  const { framesFolder, bodyFolder, faces, reused } = r.job;
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
    ...samplingOf(o),
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
    using parser = await maskParser(avatar, compute.device, o);
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
        firstFrame: reused,
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
