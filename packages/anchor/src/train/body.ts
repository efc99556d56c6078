/** `train body`: UNet and ControlNet on latents; of the mini preset from nothing, its VAE first; at full size from published weights. */
import { keep, noGrad, scope, type ProcessGroup, type Tensor } from "@make-your-anchor/torch";
import { DDPMScheduler, type BodyBatch } from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import { Avatar } from "../avatar.ts";
import { resolveFrom, startFrom } from "../base.ts";
import { chooseCompute, peakGpuMiB, startPeak, type ComputeOptions, type Precision } from "../compute.ts";
import { loadFrames, PictureSet } from "../dataset.ts";
import { embedAppearance, embedPrompts, publishedScheduler, type Prompts } from "../models.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { PosteriorLatents, UnitLatents, type LatentSource } from "./latents.ts";
import { checkAmount, checkCount, requireMemory } from "./limits.ts";
import { vaeSteps, startVae, trainPart } from "./part.ts";
import { Processes } from "./processes.ts";
import { recipeOf, type RecipeOptions } from "./recipe.ts";
import { openRun } from "./run.ts";
import { Skipped } from "./skipped.ts";
import { adapterRank, PersonAdapter, type AdapterOptions } from "./adapter.ts";
import { validationFrames, type Pose } from "./validation.ts";

export interface TrainOptions extends WorkOptions, ComputeOptions, RecipeOptions, AdapterOptions {
  /** Time to train, about; default 20 unless `steps` is given. */
  minutes?: number;
  /** Steps of UNet and ControlNet; the mini preset's VAE gets a third as many before them, and its decoder after them. */
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
  /** Of the VAE at the start and of its decoder at the end, 0 where it is published; of UNet and ControlNet. */
  steps: { vae: number; decoder: number; body: number };
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
  const full = preset.training.vae === null;
  const from = resolveFrom(preset, o.from);
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
      openRun(
        avatar,
        "body",
        { ...o, ...compute, minutes, from, recipe: recipeOf(preset.training, !full && from !== "nothing", o, rank), rank },
        5,
        processes.main,
      ),
    );
    const resume = run.latest();
    if (processes.main) run.rewindMetrics(resume);
    const seconds = (run.config.minutes ?? 20) * 60;

    const sets = full ? null : await loadFrames(avatar, frames);
    // At full size there are too many to hold: read as they are needed.
    const conditionsOf = async (places: readonly number[]): Promise<Tensor> => {
      if (sets) return sets.conditions.batch(places);
      const set = await PictureSet.load(
        places.map((k) => avatar.condition(frames[k])),
        size,
      );
      return set.batch([...places.keys()]);
    };
    const ofVae = preset.training.vae && sets && { settings: preset.training.vae, pictures: sets.frames };
    const models = { unet, controlnet, vae, encoder };
    if (ofVae) await startVae({ ...o, vae: ofVae, run, resume, seconds, processes, models });
    latents = sets ? new UnitLatents(vae, sets.frames, from === "nothing") : new PosteriorLatents(vae, avatar, frames);
    appearance = keep(embedAppearance(encoder, await readImage(avatar.referencePath)));
    if (full) encoder.dispose(); // every gigabyte counts
    const times = o.validate ?? (full && device === "cpu" ? 0 : 4);
    if (full && times > 0) prompts = await embedPrompts(avatar, preset.sampling.guidanceScale !== 1, "", { device });
    else prompts = { promptEmbeds: appearance };
    const poses: Pose[] = [];
    for (const frame of times ? validationFrames(avatar.framesWithPerson(avatar.info.heldOutFrom, avatar.info.frames)) : [])
      poses.push({ frame, truth: await readImage(avatar.frame(frame)), condition: await readImage(avatar.condition(frame)) });

    const context = appearance;
    const source = latents;
    const { busy, overflowed, steps } = await trainPart<BodyBatch>({
      avatar,
      part: "body",
      run,
      resume,
      compute,
      started,
      seconds,
      models,
      adapter,
      scheduler: new DDPMScheduler(full ? publishedScheduler() : preset.scheduler),
      sampling: preset.sampling,
      vae: ofVae,
      validate: { times, poses, prompts },
      processes,
      skipped,
      count: frames.length,
      shape: source.shape,
      data: async (places, timesteps, noise, g) => {
        const ofPlaces = await source.batch(places, g);
        using bytes = await conditionsOf(places);
        return scope(() =>
          noGrad(() => ({
            latents: ofPlaces,
            noise: keep(noise.to(device).clone()),
            timesteps,
            context: keep(context.expand([places.length, context.size(1), context.size(2)])),
            condition: keep(bytes.to(device).to("float32").div(255)),
          })),
        );
      },
      onProgress: o.onProgress,
      signal: o.signal,
    });

    return {
      run: run.folder,
      steps: { ...vaeSteps(run), body: steps },
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
