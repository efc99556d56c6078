/**
 * Stage 1: the mini preset's base from made-up people, so that binding to one person starts from what is common to all. The result is a
 * folder with `vae/` and `denoiser/{unet,controlnet,image_encoder,scheduler}`, each as diffusers and transformers lay them out.
 */
import { cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AutoencoderKL, saveModel } from "@make-your-anchor/diffusion";
import { baseFolder, startFromBase } from "../base.ts";
import { claim } from "../claim.ts";
import { chooseCompute, type ComputeOptions } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { makeFolder, replaceFolder } from "../files.ts";
import type { Model } from "../models/provenance.ts";
import { modelConfig, saveScheduler } from "../models/save.ts";
import { startFromNothing } from "../models/start.ts";
import type { PeopleWork } from "../people/film.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { checkAmount } from "../train/limits.ts";
import { chooseRecipe } from "../train/recipe.ts";
import type { LoopOptions } from "../train/loop.ts";
import { TrainingRun, type Plan } from "../train/run.ts";
import { datasetRows } from "./dataset.ts";
import { ListedPeople } from "./listed-people.ts";
import { madeUp } from "./pool.ts";
import { pretrainDenoiser, pretrainingRecipe } from "./denoiser.ts";
import { pretrainVae } from "./vae.ts";

/** `denoiser`: UNet, ControlNet and image encoder, of bodies and heads in one; `decoder`: the VAE's, whose latents stay as a denoiser knows them. */
export type PretrainPart = "vae" | "decoder" | "denoiser";

export interface PretrainOptions extends WorkOptions, ComputeOptions {
  part: PretrainPart;
  /** About how long; the schedule is laid over it. Default 60 unless `steps` is given. */
  minutes?: number;
  steps?: number;
  /** Threads that draw people. Default 1. */
  workers?: number;
  /** Made-up people held at once; default 64 for the VAE, 48 for the denoiser. The same for a run that goes on. */
  people?: number;
  /** Of the denoiser: samples of a step, the rate and the recipe's `noiseless`, instead of `pretrainingRecipe`'s; a GPU is busy with larger batches only. */
  batch?: number;
  lr?: number;
  noiseless?: number;
  /** Pictures to train on instead of made-up ones: folders of avatars, or the original's lists (`datasetRows`). */
  data?: readonly string[];
  /** The first of them, counted from 0: a base that is trained on wants new ones. Default 0. The same for a run that goes on. */
  firstPerson?: number;
  /** "base" (the one that ships) or the folder of one, whose weights it starts from instead of from nothing; the denoiser then takes its VAE too. */
  from?: string;
  /** Starts the part over instead of going on with it. */
  fresh?: boolean;
}

export interface PretrainResult {
  part: PretrainPart | Model;
  folder: string;
  steps: number;
  seconds: number;
}

/** What both parts' loops have in common. */
export type SharedSettings = Omit<LoopOptions, "stage" | "recipe" | "parameters" | "gradients">;

/** Frames of a person; crops of the VAE's few are many. */
const frames = { vae: 3, decoder: 3, denoiser: 12 } as const;

/**
 * Pre-trains a part; interrupted, the same call goes on where it stopped. Denoiser and decoder need the VAE: of `from`, or in the folder.
 * @param folder made where it is not there
 * @throws {AnchorError} `NO_VAE`, `OTHER_VAE` where it is not the one that `from` knows, `BUSY`, or `FINISHED` where the part was trained to its end
 */
export async function pretrain(folder: string, o: PretrainOptions): Promise<PretrainResult> {
  const started = performance.now();
  const minutes = o.minutes ?? (o.steps === undefined ? 60 : undefined);
  checkAmount("minutes", minutes);
  checkAmount("steps", o.steps);
  const { device, precision } = chooseCompute(o, "training");
  const { part } = o;
  const recipe = chooseRecipe(
    { ...presets.mini.training.recipe, ...pretrainingRecipe },
    { batch: o.batch, lr: o.lr, noiseless: o.noiseless },
  );
  const from = o.from === undefined ? undefined : baseFolder(o.from);
  const hasVae = existsSync(join(folder, "vae", "config.json"));
  if (part !== "vae" && from === undefined && !hasVae)
    throw new AnchorError("NO_VAE", `${folder}/vae: not there yet: run "anchor pretrain vae" into this folder first`, { misuse: true });
  const { unet, controlnet, vae, encoder } = from === undefined ? startFromNothing(presets.mini.head.models!) : startFromBase(from);
  try {
    makeFolder(folder);
    // A denoiser that goes on keeps the VAE whose latents it knows.
    if (part === "denoiser" && !hasVae) saveModel(join(folder, "vae"), vae, modelConfig(vae));
    // A better decoder is worth something to those alone who know its latents.
    if (part === "decoder" && from !== undefined && !existsSync(join(folder, "denoiser")))
      replaceWith("denoiser", (fresh) => cpSync(join(from, "denoiser"), fresh, { recursive: true }));
    const runFolder = join(folder, "runs", part);
    using _ = claim(`${runFolder}.lock`, `${folder}: ${part} is being trained`);
    if (o.fresh) rmSync(runFolder, { recursive: true, force: true });
    const fixed: Plan = o.steps === undefined ? [] : [{ step: 0, total: Math.max(1, Math.round(o.steps)) }];
    const key = part === "denoiser" ? "body" : part;
    const run = TrainingRun.at(runFolder, {
      target: part,
      preset: "mini",
      plan: { vae: [], body: [], [key]: fixed },
      minutes: minutes ?? null,
      from: o.from ?? "nothing",
      recipe,
      precision,
      rank: null,
      seed: 17,
      finished: false,
    });
    run.requireUnfinished();
    const resume = run.latest();
    run.rewindMetrics(resume);
    const loop: SharedSettings = {
      run,
      resume,
      phase: part,
      plan: (run.config.plan[key] ??= []),
      seconds: (run.config.minutes ?? 60) * 60,
      seed: run.config.seed,
      onPlanned: (plan) => {
        run.config.plan[key] = plan.slice();
        run.save();
      },
      onProgress: o.onProgress,
      signal: o.signal,
    };
    const work: PeopleWork = {
      size: presets.mini.resolution,
      frames: frames[part],
      what: part === "denoiser" ? "all" : "pictures",
      headSize: presets.mini.head.resolution,
      conditionSize: presets.mini.head.conditionSize,
    };
    const rows = o.data && (await datasetRows(o.data, part === "denoiser", o));
    const source = rows ? (first: number) => new ListedPeople(rows, work, first) : madeUp(work, o.workers);
    // Of a few people each is held more than once, with other pictures.
    const crowd = { work, people: o.people, first: o.firstPerson ?? 0, source };
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    if (part === "vae") {
      await pretrainVae(vae, { loop, ...crowd, fromNothing: from === undefined });
      replaceWith(part, (fresh) => saveModel(fresh, vae, modelConfig(vae)));
    } else if (part === "decoder") {
      using own = hasVae ? AutoencoderKL.fromPretrained(join(folder, "vae"), { device }) : undefined;
      if (own) requireSameVae(own);
      // Begun anew from a base it is that base's decoder, not what an earlier run made of it.
      const tuned = from === undefined ? own! : vae;
      await pretrainVae(tuned, { loop, ...crowd, fromNothing: false, decoderOnly: true });
      replaceWith("vae", (fresh) => saveModel(fresh, tuned, modelConfig(tuned)));
    } else {
      using base = AutoencoderKL.fromPretrained(join(folder, "vae"), { device });
      requireSameVae(base);
      const scheduler = await pretrainDenoiser({ unet, controlnet, vae: base, encoder }, { loop, precision, ...crowd });
      replaceWith(part, (fresh) => {
        saveModel(join(fresh, "unet"), unet, modelConfig(unet));
        saveModel(join(fresh, "controlnet"), controlnet, modelConfig(controlnet));
        saveModel(join(fresh, "image_encoder"), encoder, modelConfig(encoder), "model.safetensors");
        saveScheduler(fresh, scheduler.config);
      });
    }
    run.config.finished = true;
    run.save();
    return { part, folder, steps: run.latest()!.step, seconds: (performance.now() - started) / 1000 };
  } finally {
    for (const m of [unet, controlnet, vae, encoder]) m.dispose();
  }

  function requireSameVae(own: AutoencoderKL): void {
    if (from === undefined || own.config.scaling_factor === vae.config.scaling_factor) return;
    throw new AnchorError(
      "OTHER_VAE",
      `${folder}/vae: expected the VAE of ${from}, whose latents that denoiser knows, got another: name an empty --out, or leave out --from`,
      { misuse: true },
    );
  }
  function replaceWith(name: string, write: (fresh: string) => void): void {
    const fresh = join(folder, `${name}.new`);
    rmSync(fresh, { recursive: true, force: true });
    write(fresh);
    replaceFolder(fresh, join(folder, name));
  }
}
