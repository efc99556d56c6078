/** `train body`: UNet and ControlNet on latents; of the mini preset from nothing, its VAE first; at full size from published weights. */
import { autocast, backwardCheckpointed, Generator, keep, noGrad, segment, type Tensor } from "@make-your-anchor/torch";
import { bodyLoss, DDPMScheduler, type BodyBatch } from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import { Avatar } from "../avatar.ts";
import { chooseCompute, peakGpuMiB, startPeak, type ComputeOptions, type Precision } from "../compute.ts";
import { loadFrames, PictureSet } from "../dataset.ts";
import { embedAppearance, publishedScheduler, saveTrained, startFromNothing, startFromPublished } from "../models.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { batchIndices, stratifiedTimesteps, uniformTimesteps } from "./draw.ts";
import { PosteriorLatents, UnitLatents, type LatentSource } from "./latents.ts";
import { denoiserSettings, plainGradients, trainLoop } from "./loop.ts";
import { checkAmount, requireMemory } from "./limits.ts";
import { openRun } from "./run.ts";
import { trainVae } from "./vae.ts";

export interface TrainOptions extends WorkOptions, ComputeOptions {
  /** Time to train, about; default 20 unless `steps` is given. */
  minutes?: number;
  /** Steps of UNet and ControlNet; the VAE gets a third as many. */
  steps?: number;
  /** Starts over instead of going on with an interrupted run. */
  fresh?: boolean;
}

export interface TrainResult {
  run: string;
  steps: { vae: number; body: number };
  seconds: number;
  device: string;
  precision: Precision;
  /** Largest memory taken on the GPU, MiB; null on the CPU and where libtorch cannot tell. */
  peakGpuMiB: number | null;
}

/** Trains an avatar's body model. Interrupted, the same call goes on where it stopped; the last part of the clip is never looked at. */
export async function trainBody(avatar: Avatar, o: TrainOptions = {}): Promise<TrainResult> {
  const started = performance.now();
  const preset = presets[avatar.info.preset];
  const minutes = o.minutes ?? (o.steps === undefined ? 20 : undefined);
  checkAmount("minutes", minutes);
  checkAmount("steps", o.steps);
  const compute = chooseCompute(o, "training");
  const { device, precision } = compute;
  const frames = avatar.trainingFrames;
  const full = preset.models === null;
  const { unet, controlnet, vae, encoder } = preset.models === null ? startFromPublished() : startFromNothing(preset.models);
  let latents: LatentSource | undefined;
  let appearance: Tensor | undefined;
  try {
    startPeak(compute);
    if (full) requireMemory(unet.parameterCount + controlnet.parameterCount, device);
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    // Only now that everything it needs is here.
    const run = openRun(avatar, "body", { ...o, minutes }, 5);
    const resume = run.latest();
    run.rewindMetrics(resume);
    const seconds = (run.config.minutes ?? 20) * 60;

    let conditions: (indices: readonly number[]) => Tensor | Promise<Tensor>;
    if (full) {
      latents = new PosteriorLatents(vae, avatar, frames);
      // Too many to hold: read as they are needed.
      conditions = async (indices) => {
        const set = await PictureSet.load(
          indices.map((k) => avatar.condition(frames[k])),
          avatar.info.resolution,
        );
        return set.batch(indices.map((_, k) => k));
      };
    } else {
      const sets = await loadFrames(avatar, frames);
      conditions = (indices) => sets.conditions.batch(indices);
      if (resume?.phase === "body") {
        using file = run.openFile(resume, "vae");
        vae.loadStateDict(file, { what: file.path });
      } else {
        await trainVae(vae, sets.frames, preset.training, {
          run,
          plan: run.config.plan.vae,
          seconds: seconds * preset.training.vaeShare,
          resume,
          onPlanned: (plan) => {
            run.config.plan.vae = plan.slice();
            run.save();
          },
          onProgress: o.onProgress,
          signal: o.signal,
        });
      }
      latents = new UnitLatents(vae, sets.frames);
    }
    appearance = keep(embedAppearance(encoder, await readImage(avatar.referencePath)));
    if (full) encoder.dispose(); // every gigabyte counts

    const scheduler = new DDPMScheduler(full ? publishedScheduler() : preset.scheduler);
    const t = preset.training;
    const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
    const left = Math.max(30, seconds - (performance.now() - started) / 1000);
    const context = appearance;
    /** The loss of a few of a batch's samples; everything random is drawn for the whole batch before. */
    const batchOf = async (indices: readonly number[], timesteps: readonly number[], noise: Tensor, g: Generator): Promise<BodyBatch> => ({
      latents: await latents!.batch(indices, g),
      noise: noGrad(() => noise.to(device)),
      timesteps,
      context: context.expand([indices.length, context.size(1), context.size(2)]),
      condition: await conditions(indices),
    });
    const models = { unet, controlnet, scheduler };
    const asFloats = (b: BodyBatch): BodyBatch => ({ ...b, condition: b.condition.to(device).to("float32").div(255) });
    const shape = latents.shape;
    await trainLoop({
      ...denoiserSettings(t, full),
      run,
      phase: "body",
      // Latents of another VAE would mean nothing to these weights.
      alsoSaved: full ? undefined : () => ({ vae: vae.stateDict() }),
      stage: "training the body model",
      parameters: named,
      clipped: full ? controlnet.parameters() : named.map(([, p]) => p),
      seed: run.config.seed,
      plan: run.config.plan.body,
      seconds: left,
      resume,
      onPlanned: (plan) => {
        run.config.plan.body = plan.slice();
        run.save();
      },
      onProgress: o.onProgress,
      signal: o.signal,
      gradients: async (step, g) => {
        const indices = batchIndices(frames.length, t.batch, step, run.config.seed);
        const timesteps = full
          ? uniformTimesteps(g, t.batch, scheduler.config.num_train_timesteps)
          : stratifiedTimesteps(g, t.batch, scheduler.config.num_train_timesteps);
        using noise = g.randn([t.batch, ...shape]);
        const owned: Tensor[] = [];
        try {
          if (!full) {
            const batch = await batchOf(indices, timesteps, noise, g);
            owned.push(batch.latents, batch.noise, batch.context, batch.condition);
            return plainGradients(() => autocast(device, precision, () => bodyLoss(models, asFloats(batch))));
          }
          // One sample at a time, with checkpoints: at this size memory is what is short.
          let total = 0;
          for (const [k, index] of indices.entries()) {
            o.signal?.throwIfAborted();
            using one = noGrad(() => noise.narrow(0, k, 1));
            const batch = await batchOf([index], [timesteps[k]], one, g);
            owned.push(batch.latents, batch.noise, batch.context, batch.condition);
            // The backward pass runs the segments again, in the same precision.
            total += autocast(device, precision, () =>
              backwardCheckpointed(() => segment([bodyLoss(models, asFloats(batch))], ([l]) => l.mul(1 / t.batch))),
            );
          }
          return total;
        } finally {
          for (const x of owned) x.dispose();
        }
      },
    });

    saveTrained(avatar, "body", { unet, controlnet, vae, encoder }, full ? null : scheduler.config);
    run.config.finished = true;
    run.save();
    return {
      run: run.folder,
      steps: { vae: full ? 0 : (run.config.plan.vae.at(-1)?.total ?? 0), body: run.latest()!.step },
      seconds: (performance.now() - started) / 1000,
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
    };
  } finally {
    for (const m of [vae, encoder, unet, controlnet]) m.dispose();
    latents?.dispose();
    appearance?.dispose();
  }
}
