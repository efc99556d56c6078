/** `train body`: UNet and ControlNet on latents; of the mini preset from nothing, its VAE first; at full size from published weights. */
import { keep, noGrad, scope, type ProcessGroup, type Tensor } from "@make-your-anchor/torch";
import { bodyLoss, DDPMScheduler, type BodyBatch } from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import { Avatar } from "../avatar.ts";
import { resolveFrom, startFrom } from "../base.ts";
import { chooseCompute, peakGpuMiB, startPeak, type ComputeOptions, type Precision } from "../compute.ts";
import { loadFrames, PictureSet } from "../dataset.ts";
import { embedAppearance, embedPrompts, publishedScheduler, saveTrained, type Prompts } from "../models.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { trainDenoiser } from "./denoiser.ts";
import { PosteriorLatents, UnitLatents, type LatentSource } from "./latents.ts";
import { checkAmount, checkCount, requireMemory } from "./limits.ts";
import { Processes } from "./processes.ts";
import { recipeOf, type RecipeOptions } from "./recipe.ts";
import { openRun } from "./run.ts";
import { Skipped } from "./skipped.ts";
import { adapterRank, PersonAdapter, type AdapterOptions } from "./adapter.ts";
import { Validation, validationFrames, type Pose } from "./validation.ts";
import { trainVae } from "./vae.ts";

export interface TrainOptions extends WorkOptions, ComputeOptions, RecipeOptions, AdapterOptions {
  /** Time to train, about; default 20 unless `steps` is given. */
  minutes?: number;
  /** Steps of UNet and ControlNet; the VAE gets a third as many. */
  steps?: number;
  /**
   * What the weights start from: of the mini preset "base" (the one that comes with the package, the default), "nothing", or the folder of a
   * base that `pretrain` made; of the full-size one the published weights (the default), or a folder with UNet and ControlNet of its own.
   */
  from?: string;
  /**
   * How many times the result is tried on fixed held-out poses, evenly over the training; the best of these states is the result, and `evaluate`
   * leaves those frames out. Default 4, at full size on the CPU 0.
   */
  validate?: number;
  /** The processes that train together, one on each of its ranks; see `ProcessGroup`. All see the same avatar folder. */
  group?: ProcessGroup;
  /** Leaves out pictures that cannot be read or have the wrong size, instead of stopping at the first. */
  skipBad?: boolean;
  /** Starts over instead of going on with an interrupted run. */
  fresh?: boolean;
}

export interface TrainResult {
  run: string;
  steps: { vae: number; body: number };
  seconds: number;
  device: string;
  precision: Precision;
  /** Share of the time in which the engine computed rather than waited for data, 0..1; UNet and ControlNet. */
  busy: number;
  /** Pictures left out by `skipBad`, a sentence each. */
  skipped: string[];
  /** Steps left out because their gradients overflowed; float16 alone. */
  overflowed: number;
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
  checkCount("validate", o.validate);
  const compute = chooseCompute(o, "training");
  const { device } = compute;
  const processes = new Processes(o.group);
  const skipped = new Skipped(o.skipBad ?? false);
  const ofVae = preset.training.vae;
  const full = ofVae === null;
  const from = resolveFrom(preset, o.from);
  const fromBase = !full && from !== "nothing";
  const rank = adapterRank(o, from);
  const size = avatar.info.resolution;
  const frames = o.skipBad
    ? await skipped.readable(avatar.trainingFrames, (f) => PictureSet.load([avatar.frame(f), avatar.condition(f)], size))
    : avatar.trainingFrames;
  const { unet, controlnet, vae, encoder } = startFrom(preset, "body", from);
  let latents: LatentSource | undefined;
  let appearance: Tensor | undefined;
  let prompts: Prompts | undefined;
  let adapter: PersonAdapter | null = null;
  try {
    startPeak(compute);
    const count = unet.parameterCount + controlnet.parameterCount;
    adapter = rank === null ? null : new PersonAdapter({ unet, controlnet }, rank);
    if (full) requireMemory(adapter ? { trained: adapter.parameterCount, frozen: count } : { trained: count, frozen: 0 }, device);
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    adapter?.initialize(device);
    // Only now that everything it needs is here.
    const run = await processes.mainFirst(() =>
      openRun(avatar, "body", { ...o, minutes, from, recipe: recipeOf(preset.training, fromBase, o, rank), rank }, 5, processes.main),
    );
    const resume = run.latest();
    if (processes.main) run.rewindMetrics(resume);
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
        vae.loadStateDict(file, { what: file.path, device });
      } else {
        await trainVae(vae, sets.frames, ofVae, {
          run,
          plan: run.config.plan.vae,
          seconds: seconds * (fromBase ? ofVae.decoderShare : ofVae.share),
          decoderOnly: fromBase,
          processes,
          resume,
          onPlanned: (plan) => {
            run.config.plan.vae = plan.slice();
            run.save();
          },
          onProgress: o.onProgress,
          signal: o.signal,
        });
      }
      latents = new UnitLatents(vae, sets.frames, !fromBase);
    }
    appearance = keep(embedAppearance(encoder, await readImage(avatar.referencePath)));
    if (full) encoder.dispose(); // every gigabyte counts
    const validation = o.validate ?? (full && device === "cpu" ? 0 : 4);
    if (full && validation > 0) prompts = await embedPrompts(avatar, preset.sampling.guidanceScale !== 1, "", { device });
    else prompts = { promptEmbeds: appearance };

    const scheduler = new DDPMScheduler(full ? publishedScheduler() : preset.scheduler);
    const left = Math.max(30, seconds - (performance.now() - started) / 1000);
    const context = appearance;
    const source = latents;
    const models = { unet, controlnet, scheduler };
    const { recipe } = run.config;
    const validated = validation ? validationFrames(avatar.framesWithPerson(avatar.info.heldOutFrom, avatar.info.frames)) : [];
    const poses: Pose[] = [];
    for (const frame of validated)
      poses.push({ frame, truth: await readImage(avatar.frame(frame)), condition: await readImage(avatar.condition(frame)) });
    const validator =
      poses.length > 0
        ? new Validation({
            run,
            times: validation,
            poses,
            models: { unet, controlnet, vae },
            scheduler: scheduler.config,
            sampling: preset.sampling,
            prompts,
          })
        : undefined;
    const { busy, overflowed } = await trainDenoiser<BodyBatch>({
      run,
      phase: "body",
      stage: "training the body model",
      seconds: left,
      resume,
      compute,
      models,
      adapter,
      validation: validator,
      // Latents of another VAE would mean nothing to these weights.
      alsoSaved: full ? undefined : () => ({ vae: vae.stateDict() }),
      processes,
      skipped,
      count: frames.length,
      shape: source.shape,
      data: async (places, timesteps, noise, g) => ({
        latents: await source.batch(places, g),
        noise: scope(() => noGrad(() => keep(noise.to(device).clone()))),
        timesteps,
        context: noGrad(() => context.expand([places.length, context.size(1), context.size(2)])),
        condition: await conditions(places),
      }),
      loss: (batch) => bodyLoss(models, { ...batch, condition: batch.condition.to(device).to("float32").div(255) }),
      onProgress: o.onProgress,
      signal: o.signal,
    });

    if (processes.main) {
      saveTrained(avatar, "body", { unet, controlnet, vae, encoder }, full ? null : scheduler.config, {
        from,
        recipe,
        steps: run.latest()!.step,
        best: validator?.best ?? null,
        validated,
        adapter,
      });
      run.config.finished = true;
      run.save();
      validator?.close();
    }
    return {
      run: run.folder,
      steps: { vae: full ? 0 : (run.config.plan.vae.at(-1)?.total ?? 0), body: run.latest()?.step ?? 0 },
      seconds: (performance.now() - started) / 1000,
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
      busy,
      overflowed,
      skipped: skipped.all,
    };
  } finally {
    adapter?.detach();
    for (const m of [vae, encoder, unet, controlnet]) m.dispose();
    latents?.dispose();
    appearance?.dispose();
    prompts?.promptEmbeds.dispose();
    prompts?.negativePromptEmbeds?.dispose();
  }
}
