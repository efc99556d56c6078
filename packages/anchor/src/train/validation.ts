/** Renders at intervals on fixed poses that training never sees, and the best state they saw. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Generator, noGrad, SafetensorsFile, saveSafetensors, scope, type Parameter } from "@make-your-anchor/torch";
import { createSampler, sampleBody, type BodyModels, type Inpainting, type SchedulerConfig } from "@make-your-anchor/diffusion";
import { bytesTruncated, type RgbImage } from "@make-your-anchor/media";
import type { View } from "../draft/view.ts";
import { fromPlanes, spread, toPlanes } from "../dataset.ts";
import type { Draft } from "../draft/draft.ts";
import { makeFolder, readJson, writeJson } from "../files.ts";
import { startNoise } from "../generate.ts";
import { score, type Planes, type Scores } from "../measure.ts";
import type { Prompts } from "../models/load.ts";
import type { Preset } from "../presets.ts";
import { writeSheet } from "../sheet.ts";
import type { TrainingRun } from "./run.ts";

/** A held-out frame as it is and as it is asked for. */
export interface Pose {
  frame: number;
  truth: RgbImage;
  condition: RgbImage;
  /** How the camera sees the background; default unmoved. */
  view?: View;
  /** Of heads. */
  inpaint?: Inpainting;
  /** Where it counts, `[size · size]` of 0 and 1; default everywhere. */
  counts?: Uint8Array;
}

export interface ValidationOptions {
  run: TrainingRun;
  /** How many times over the training, evenly. */
  times: number;
  poses: readonly Pose[];
  models: BodyModels;
  scheduler: Partial<SchedulerConfig>;
  sampling: Omit<Preset["sampling"], "aliased"> & { aliased?: boolean };
  prompts: Prompts;
  /** What the poses are painted from, of models that are. */
  draft?: Draft;
}

export interface Best extends Scores {
  step: number;
}

/** How many poses, spread over the held-out part; fewer where that is short. */
const poseCount = 6;
/** Of the held-out frames at most this share is used up: `evaluate` leaves them out. */
const largestShare = 0.25;

/**
 * Frames to validate on, of those held out; none where there are too few.
 * @param known frames that another model of the avatar was validated on: they are lost to measuring already
 */
export function validationFrames(held: readonly number[], known: ReadonlySet<number> = new Set()): number[] {
  const again = held.filter((f) => known.has(f));
  if (again.length > 0) return again;
  const count = Math.min(poseCount, Math.floor(held.length * largestShare));
  return spread(count, held.length).map((i) => held[i]);
}

export class Validation {
  /** The best state so far. */
  best: Best | undefined;
  private readonly o: ValidationOptions;
  private readonly truth: Planes[];

  constructor(o: ValidationOptions) {
    this.o = o;
    this.truth = o.poses.map((p) => toPlanes(p.truth));
    if (existsSync(this.bestPath)) this.best = readJson(this.bestPath) as Best;
  }
  private get bestPath(): string {
    return join(this.o.run.folder, "best", "best.json");
  }

  /** Whether to render after a step; always after the last. */
  due(step: number, total: number | null): boolean {
    return total !== null && (step === total || step % Math.ceil(total / this.o.times) === 0);
  }

  /**
   * Renders the poses with the weights as they are, each by itself, and keeps the weights where they are the best so far by PSNR.
   * @returns what is logged
   */
  async measure(
    step: number,
    parameters: readonly (readonly [string, Parameter])[],
    signal?: AbortSignal,
  ): Promise<Record<string, number>> {
    const { run, poses } = this.o;
    const made = await this.render(signal);
    const size = poses[0].truth.width;
    const each = poses.map((p, i) => score([made[i]], [this.truth[i]], size, p.counts ?? null));
    const mean = (of: (s: Scores) => number) => each.reduce((sum, s) => sum + of(s), 0) / each.length;
    const scores = { psnr: mean((s) => s.psnr), ssim: mean((s) => s.ssim), sharpness: mean((s) => s.sharpness) };
    const sheet = join(makeFolder(join(run.folder, "validation")), `step-${String(step).padStart(6, "0")}.png`);
    await writeSheet(
      sheet,
      poses.map((p, i) => [p.condition, fromPlanes(made[i], size, size), p.truth]),
      size,
    );
    run.image("validation", step, readFileSync(sheet));
    if (!this.best || scores.psnr > this.best.psnr) {
      const weights = join(makeFolder(join(run.folder, "best")), "weights.safetensors");
      saveSafetensors(weights, new Map(parameters.map(([name, p]) => [name, p.value])));
      this.best = { step, ...scores };
      writeJson(this.bestPath, this.best);
    }
    return { validation_psnr: scores.psnr, validation_ssim: scores.ssim, validation_sharpness: scores.sharpness };
  }

  /** Puts the best state's weights in place, where it is not the last one. */
  restore(step: number, parameters: readonly (readonly [string, Parameter])[]): void {
    if (!this.best || this.best.step === step) return;
    using file = new SafetensorsFile(join(this.o.run.folder, "best", "weights.safetensors"));
    scope(() => noGrad(() => parameters.forEach(([name, p]) => void p.value.detach().copy_(file.read(name)))));
  }

  /** The weights served their purpose: the result holds them. */
  close(): void {
    rmSync(join(this.o.run.folder, "best", "weights.safetensors"), { force: true });
  }

  private async render(signal?: AbortSignal): Promise<Planes[]> {
    const { poses, models, scheduler, sampling: s, prompts, draft } = this.o;
    const size = poses[0].truth.width;
    using g = new Generator(s.seed);
    const sampler = createSampler("ddim", scheduler, s.steps, {});
    const noise = startNoise(g, sampler, scheduler, [models.vae.config.latent_channels, size / models.vae.factor]);
    try {
      const made: Planes[] = [];
      const frames = sampleBody(models, {
        frames: poses.length,
        condition: (i) => poses[i].condition,
        inpaint: poses[0].inpaint && ((i) => poses[i].inpaint!),
        draft: draft && ((condition, i) => draft.draw(condition, poses[i].view)),
        ...prompts,
        noise,
        width: size,
        height: size,
        windowSize: 1,
        windowOverlap: 0,
        sampler,
        guidanceScale: s.guidanceScale,
        controlnetConditioningScale: s.controlnetConditioningScale,
        aliased: s.aliased ?? false,
        signal,
      });
      for await (const { index, pixels } of frames) made[index] = toPlanes(fromPlanes(bytesTruncated(pixels), size, size));
      return made;
    } finally {
      noise.dispose();
    }
  }
}
