/** What training a body and training a head have in common around their samples: what was asked, the weights and the run they go on with, what is told at the end. */
import { keep, type ProcessGroup, type Tensor } from "@make-your-anchor/torch";
import { DDPMScheduler } from "@make-your-anchor/diffusion";
import type { RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { resolveFrom, startFrom } from "../base.ts";
import { claim } from "../claim.ts";
import { chooseCompute, peakGpuMiB, startPeak, type Compute, type ComputeOptions, type Precision } from "../compute.ts";
import { embedAppearance, embedPrompts, type Prompts } from "../models/load.ts";
import type { Model } from "../models/provenance.ts";
import { publishedScheduler, type StartedModels } from "../models/start.ts";
import { presets, type Preset } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { adapterRank, PersonAdapter, type AdapterOptions } from "./adapter.ts";
import { checkAmount, checkCount, requireMemory } from "./limits.ts";
import { Processes } from "./processes.ts";
import { recipeOf, type RecipeOptions } from "./recipe.ts";
import { openRun, type Checkpoint, type TrainingRun } from "./run.ts";
import { Skipped } from "./skipped.ts";
import type { Best } from "./validation.ts";

export interface TrainOptions extends WorkOptions, ComputeOptions, RecipeOptions, AdapterOptions {
  /** Time to train, about; default 20, of a head 10, unless `steps` is given. */
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
  /** Of everything random in the training: order, noise, timesteps, crops. A whole number from 0; default 5, of a head 6. */
  seed?: number;
  /** Leaves out pictures that cannot be read or have the wrong size, instead of stopping at the first. */
  skipBad?: boolean;
  /** Starts over instead of going on with an interrupted run. */
  fresh?: boolean;
}

/** What a training of either part tells. */
export interface TrainedPart {
  run: string;
  seconds: number;
  device: string;
  precision: Precision;
  /** Share of the time in which the engine computed rather than waited for data, 0..1; UNet and ControlNet. */
  busy: number;
  /** The state that was kept: after which step, and what it drew on the held-out poses of `validate` (of a body the whole frame; before the decoder's end). Null without trials. */
  best: Best | null;
  /** Pictures left out by `skipBad`, a sentence each. */
  skipped: string[];
  /** Steps left out because their gradients overflowed; float16 alone. */
  overflowed: number;
  /** Largest memory taken on the GPU, MiB; null on the CPU and where libtorch cannot tell. */
  peakGpuMiB: number | null;
}

/** Steps and epochs are counted on from a multiple of it, in 53 bits. */
const largestSeed = 2 ** 31 - 1;

const defaults = { body: { minutes: 20, seed: 5 }, head: { minutes: 10, seed: 6 } } as const;

/** What was asked, checked; nothing is opened yet. */
export class AskedTraining {
  readonly began = performance.now();
  readonly avatar: Avatar;
  readonly part: Model;
  readonly options: TrainOptions;
  readonly preset: Preset;
  /** The preset's for this part. */
  readonly settings: Pick<Preset["head"], "resolution" | "sampling" | "training">;
  /** From published weights, whose VAE stays. */
  readonly full: boolean;
  readonly compute: Compute;
  readonly processes: Processes;
  readonly skipped: Skipped;
  readonly from: string;
  readonly rank: number | null;
  readonly minutes: number | undefined;
  /** How many times the result is tried on held-out poses. */
  readonly trials: number;

  /** @throws {AnchorError} `OPTION` */
  constructor(avatar: Avatar, part: Model, o: TrainOptions) {
    this.avatar = avatar;
    this.part = part;
    this.options = o;
    this.preset = presets[avatar.info.preset];
    this.settings = part === "head" ? this.preset.head : this.preset;
    this.full = this.settings.training.vae === null;
    this.minutes = o.minutes ?? (o.steps === undefined ? defaults[part].minutes : undefined);
    checkAmount("minutes", this.minutes);
    checkAmount("steps", o.steps);
    checkCount("validate", o.validate);
    checkCount("seed", o.seed, largestSeed);
    this.compute = chooseCompute(o, "training");
    this.trials = o.validate ?? (this.full && this.compute.device === "cpu" ? 0 : 4);
    this.processes = new Processes(o.group);
    this.skipped = new Skipped(o.skipBad ?? false);
    this.from = resolveFrom(this.preset, o.from);
    this.rank = adapterRank(o, this.from);
  }

  /** Opens the weights, then the run. @throws {AnchorError} `MEMORY`, `BUSY`, `OPTION` where a run goes on that was begun otherwise */
  async start(): Promise<StartedTraining> {
    const { avatar, part, preset, settings, full, compute, processes, from, rank, minutes, options } = this;
    const { device } = compute;
    const models = startFrom(preset, part, from);
    const { unet, controlnet, vae, encoder } = models;
    let adapter: PersonAdapter | null = null;
    let claimed: Disposable | undefined;
    try {
      startPeak(compute);
      const count = unet.parameterCount + controlnet.parameterCount;
      adapter = rank === null ? null : new PersonAdapter(models, rank);
      if (full) requireMemory(adapter ? { trained: adapter.parameterCount, frozen: count } : { trained: count, frozen: 0 }, device);
      for (const m of [unet, controlnet, vae, encoder]) m.to(device);
      adapter?.initialize(device);
      // Only now that everything it needs is here.
      const run = await processes.mainFirst(() => {
        if (processes.main) claimed = claim(avatar.path("runs", `${part}.lock`), `${avatar.info.name}'s ${part} is being trained`);
        const recipe = recipeOf(settings.training, !full && from !== "nothing", options, rank);
        return openRun(avatar, part, { ...options, ...compute, minutes, from, recipe, rank }, defaults[part].seed, processes.main);
      });
      return new StartedTraining(this, models, adapter, run, claimed);
    } catch (error) {
      adapter?.detach();
      for (const m of Object.values(models)) m.dispose();
      claimed?.[Symbol.dispose]();
      throw error;
    }
  }
}

/** Weights and a run; its end frees what it holds. */
export class StartedTraining {
  readonly asked: AskedTraining;
  readonly models: StartedModels;
  /** Trained in the place of the models' own weights. */
  readonly adapter: PersonAdapter | null;
  readonly run: TrainingRun;
  readonly resume: Checkpoint | undefined;
  /** How long the training may take. */
  readonly seconds: number;
  readonly scheduler: DDPMScheduler;
  private readonly embeds: (Tensor | undefined)[] = [];
  private readonly claimed: Disposable | undefined;

  constructor(asked: AskedTraining, models: StartedModels, adapter: PersonAdapter | null, run: TrainingRun, claimed?: Disposable) {
    this.asked = asked;
    this.models = models;
    this.adapter = adapter;
    this.run = run;
    this.claimed = claimed;
    this.resume = run.latest();
    if (asked.processes.main) run.rewindMetrics(this.resume);
    this.seconds = (run.config.minutes ?? defaults[asked.part].minutes) * 60;
    this.scheduler = new DDPMScheduler(asked.full ? publishedScheduler() : asked.preset.scheduler);
  }

  /** How the person looks, `[1, tokens, hidden]`, for every sample; the encoder is not asked again. */
  appearance(picture: RgbImage): Tensor {
    const { encoder } = this.models;
    const appearance = keep(embedAppearance(encoder, picture));
    this.embeds.push(appearance);
    if (this.asked.full) encoder.dispose(); // every gigabyte counts
    return appearance;
  }

  /** What the trials on held-out poses are guided by. */
  async prompts(appearance: Tensor): Promise<Prompts> {
    const { avatar, part, full, trials, settings, compute } = this.asked;
    if (!full || trials === 0) return { promptEmbeds: appearance };
    const prompts = await embedPrompts(avatar, settings.sampling.guidanceScale !== 1, "", { device: compute.device }, part);
    this.embeds.push(prompts.promptEmbeds, prompts.negativePromptEmbeds);
    return prompts;
  }

  told({ busy, overflowed, best }: Pick<TrainedPart, "busy" | "overflowed" | "best">): TrainedPart {
    const { compute, began, skipped } = this.asked;
    return {
      run: this.run.folder,
      seconds: (performance.now() - began) / 1000,
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
      busy,
      overflowed,
      best,
      skipped: skipped.all,
    };
  }

  [Symbol.dispose](): void {
    this.adapter?.detach();
    for (const m of Object.values(this.models)) m.dispose();
    for (const t of this.embeds) t?.dispose();
    this.claimed?.[Symbol.dispose]();
  }
}
