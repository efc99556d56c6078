/**
 * Stage 1: the mini preset's VAE and body model on made-up people, so that binding to one person starts from what is common to all.
 * The result is a folder in diffusers' layout: vae/, image_encoder/, unet/, controlnet/, scheduler/.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { autocast, cat, fromData, keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { AutoencoderKL, bodyLoss, clipPixels, DDPMScheduler, saveModel, samplePosterior } from "@make-your-anchor/diffusion";
import { chooseCompute, type ComputeOptions } from "../compute.ts";
import { fromPlanes } from "../dataset.ts";
import { AnchorError } from "../errors.ts";
import { makeFolder, replaceFolder } from "../files.ts";
import { modelConfig, saveScheduler, startFromNothing } from "../models.ts";
import type { FilmedPerson, PeopleWork } from "../people/film.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { stratifiedTimesteps } from "../train/draw.ts";
import { checkAmount } from "../train/limits.ts";
import { plainGradients, trainLoop } from "../train/loop.ts";
import { TrainingRun, type Plan } from "../train/run.ts";
import { fixedSpread, vaeLoss } from "../train/vae.ts";
import { PeoplePool } from "./pool.ts";

export type PretrainPart = "vae" | "body";

export interface PretrainOptions extends WorkOptions, ComputeOptions {
  part: PretrainPart;
  /** About how long; the schedule is laid over it. Default 60 unless `steps` is given. */
  minutes?: number;
  steps?: number;
  /** Threads that draw people. Default 1. */
  workers?: number;
  /** Made-up people held at once; default 64 for the VAE, 48 for the body. The same for a run that goes on. */
  people?: number;
  /** Starts the part over instead of going on with it. */
  fresh?: boolean;
}

export interface PretrainResult {
  part: PretrainPart;
  folder: string;
  steps: number;
  seconds: number;
}

/** People held at once, and steps after which one of them is replaced: what two cores draw beside training. */
const pools = { vae: { people: 64, stay: 2, frames: 3 }, body: { people: 48, stay: 2, frames: 8 } } as const;
/** Rates; a long run wants a lower one than a few minutes do. */
const rates = { vae: 1e-3, body: 5e-4 } as const;
const emaDecay = 0.999;
/** Side of the crops a VAE step looks at, pixels, and how many. */
const vaeCrop = { side: 64, count: 8 } as const;
/** Share of samples without an appearance, so that guidance knows both ways. */
const droppedAppearance = 0.1;

/**
 * Pre-trains a part; interrupted, the same call goes on where it stopped. The body needs the VAE's folder.
 * @param folder made where it is not there
 */
export async function pretrain(folder: string, o: PretrainOptions): Promise<PretrainResult> {
  const started = performance.now();
  const minutes = o.minutes ?? (o.steps === undefined ? 60 : undefined);
  checkAmount("minutes", minutes);
  checkAmount("steps", o.steps);
  const { device, precision } = chooseCompute(o, "training");
  const { part } = o;
  if (part === "body" && !existsSync(join(folder, "vae", "config.json")))
    throw new AnchorError("NO_VAE", `${folder}/vae: not there yet: run "anchor pretrain vae" into this folder first`, { misuse: true });
  makeFolder(folder);
  const runFolder = join(folder, "runs", part);
  if (o.fresh) rmSync(runFolder, { recursive: true, force: true });
  const fixed: Plan = o.steps === undefined ? [] : [{ step: 0, total: Math.max(1, Math.round(o.steps)) }];
  const run = TrainingRun.at(runFolder, {
    target: part,
    preset: "mini",
    plan: { vae: part === "vae" ? fixed : [], body: part === "body" ? fixed : [] },
    minutes: minutes ?? null,
    seed: 17,
    finished: false,
  });
  if (run.config.finished)
    throw new AnchorError("FINISHED", `${runFolder}: this part is finished: train it again from the start with --fresh`, { misuse: true });
  const resume = run.latest();
  run.rewindMetrics(resume);
  const shared = {
    run,
    resume,
    phase: part,
    plan: run.config.plan[part],
    seconds: (run.config.minutes ?? 60) * 60,
    seed: run.config.seed,
    lr: rates[part],
    emaDecay,
    maxGradNorm: 1,
    onPlanned: (plan: Plan) => {
      run.config.plan[part] = plan.slice();
      run.save();
    },
    onProgress: o.onProgress,
    signal: o.signal,
  };
  const work: PeopleWork = {
    size: presets.mini.resolution,
    frames: pools[part].frames,
    what: part === "vae" ? "pictures" : "body",
    headSize: presets.mini.head.resolution,
    conditionSize: presets.mini.head.conditionSize,
  };
  await (part === "vae" ? pretrainVae() : pretrainBody());
  run.config.finished = true;
  run.save();
  return { part, folder, steps: run.latest()!.step, seconds: (performance.now() - started) / 1000 };

  async function pretrainVae(): Promise<void> {
    const { unet, controlnet, vae, encoder } = startFromNothing(presets.mini.models!);
    for (const m of [unet, controlnet, encoder]) m.dispose();
    vae.to(device);
    const pool = new PeoplePool<FilmedPerson>(
      { work, people: o.people ?? pools.vae.people, stay: pools.vae.stay, prepare: (p) => p, workers: o.workers },
      resume?.step ?? 0,
    );
    try {
      await trainLoop({
        ...shared,
        stage: "pre-training the VAE",
        parameters: [...vae.namedParameters("vae.")],
        clipped: vae.parameters(),
        weightDecay: 0,
        gradients: async (step, g) => {
          const people = await pool.at(step);
          return plainGradients(() => {
            const { side, count } = vaeCrop;
            const [who, frame, left, top, flip] = [people.length, work.frames, work.size - side + 1, work.size - side + 1, 2].map((n) =>
              g.randint(0, n, [count]).data(),
            );
            const crops = Array.from({ length: count }, (_, b) => {
              const n = 3 * work.size ** 2;
              const at = Number(frame[b]) * n;
              const crop = fromData(people[Number(who[b])].pictures.slice(at, at + n), [1, 3, work.size, work.size])
                .narrow(2, Number(top[b]), side)
                .narrow(3, Number(left[b]), side);
              return Number(flip[b]) ? crop.flip([3]) : crop;
            });
            const x = cat(crops, 0).to(device).to("float32").div(127.5).sub(1);
            const { mean, logvar } = vae.encode(x);
            const z = samplePosterior({ mean, logvar: fixedSpread(logvar) }, g.randn(mean.shape).to(device));
            return vaeLoss(vae.decode(z), x, mean, logvar);
          });
        },
      });
      vae.config.scaling_factor = scope(() =>
        noGrad(() => {
          return unitScale(vae, pool.present(), work.size);
        }),
      );
      const fresh = join(folder, "vae.new");
      rmSync(fresh, { recursive: true, force: true });
      saveModel(fresh, vae, modelConfig(vae));
      replaceFolder(fresh, join(folder, "vae"));
    } finally {
      await pool.close();
      vae.dispose();
    }
  }

  async function pretrainBody(): Promise<void> {
    const { unet, controlnet, vae: unused, encoder } = startFromNothing(presets.mini.models!);
    unused.dispose();
    const vae = AutoencoderKL.fromPretrained(join(folder, "vae"));
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    const scheduler = new DDPMScheduler(presets.mini.scheduler);
    const { size } = work;
    const n = 3 * size * size;
    interface Seen {
      latents: Tensor;
      conditions: Uint8Array;
      /** As the image encoder wants it, `[frames, 3, 224, 224]`. */
      looks: Tensor;
    }
    const pool = new PeoplePool<Seen>(
      {
        work,
        people: o.people ?? pools.body.people,
        stay: pools.body.stay,
        workers: o.workers,
        prepare: ({ pictures, conditions }) =>
          scope(() =>
            noGrad(() => {
              const x = fromData(pictures, [work.frames, 3, size, size]).to(device).to("float32").div(127.5).sub(1);
              return {
                latents: keep(vae.encode(x).mean.mul(vae.config.scaling_factor)),
                conditions,
                // One picture says who it is.
                looks: keep(clipPixels([fromPlanes(pictures.subarray(0, n), size, size)], encoder.config.image_size)),
              };
            }),
          ),
        release: (s) => {
          s.latents.dispose();
          s.looks.dispose();
        },
      },
      resume?.step ?? 0,
    );
    const t = presets.mini.training;
    const parts = { unet, controlnet, image_encoder: encoder };
    const named = Object.entries(parts).flatMap(([name, m]) => [...m.namedParameters(`${name}.`)]);
    try {
      await trainLoop({
        ...shared,
        stage: "pre-training the body model",
        parameters: named,
        clipped: named.map(([, p]) => p),
        weightDecay: t.weightDecay,
        gradients: async (step, g) => {
          const people = await pool.at(step);
          return plainGradients(() => {
            const [who, frame] = [people.length, work.frames].map((count) => Array.from(g.randint(0, count, [t.batch]).data(), Number));
            const kept = g.rand([t.batch, 1, 1]).ge(droppedAppearance).to("float32").to(device);
            const conditions = new Uint8Array(t.batch * n);
            who.forEach((w, b) => conditions.set(people[w].conditions.subarray(frame[b] * n, (frame[b] + 1) * n), b * n));
            const looks = cat(
              who.map((w) => people[w].looks),
              0,
            );
            const latents = cat(
              who.map((w, b) => people[w].latents.narrow(0, frame[b], 1)),
              0,
            );
            const timesteps = stratifiedTimesteps(g, t.batch, scheduler.config.num_train_timesteps);
            const noise = g.randn(latents.shape).to(device);
            return autocast(device, precision, () =>
              bodyLoss(
                { unet, controlnet, scheduler },
                {
                  latents,
                  noise,
                  timesteps,
                  context: encoder.forward(looks.to(device)).lastHiddenState.mul(kept),
                  condition: fromData(conditions, [t.batch, 3, size, size]).to(device).to("float32").div(255),
                },
              ),
            );
          });
        },
      });
      const fresh = join(folder, "body.new");
      rmSync(fresh, { recursive: true, force: true });
      saveModel(join(fresh, "unet"), unet, modelConfig(unet));
      saveModel(join(fresh, "controlnet"), controlnet, modelConfig(controlnet));
      saveModel(join(fresh, "image_encoder"), encoder, modelConfig(encoder), "model.safetensors");
      saveScheduler(fresh, scheduler.config);
      replaceFolder(fresh, join(folder, "body"));
    } finally {
      await pool.close();
      for (const m of [unet, controlnet, vae, encoder]) m.dispose();
    }
  }
}

/** The factor that gives people's latents unit variance. */
function unitScale(vae: AutoencoderKL, people: readonly FilmedPerson[], size: number): number {
  const n = 3 * size * size;
  const means = people.map((p) =>
    scope(() =>
      keep(vae.encode(fromData(p.pictures.slice(0, n), [1, 3, size, size]).to(vae.device).to("float32").div(127.5).sub(1)).mean.clone()),
    ),
  );
  const all = cat(means, 0);
  for (const m of means) m.dispose();
  return Number((1 / Math.sqrt(all.sub(all.mean()).square().mean().item())).toPrecision(6));
}
