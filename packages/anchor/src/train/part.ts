/**
 * What training a body and training a head share once their samples are there: the VAE, UNet and ControlNet, the decoder once more for what
 * those sample, trying the result on held-out poses, and keeping it.
 */
import { autocast, cat, Generator, keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { createSampler, predictNoised, type BodyBatch, type DDPMScheduler, type HeadBatch } from "@make-your-anchor/diffusion";
import type { Avatar } from "../avatar.ts";
import type { Compute } from "../compute.ts";
import type { PictureSet } from "../dataset.ts";
import { saveTrained, type Model, type Prompts, type StartedModels } from "../models.ts";
import type { VaeSettings } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import type { PersonAdapter } from "./adapter.ts";
import { release } from "./denoising.ts";
import { trainDenoiser, type DenoiserTraining } from "./denoiser.ts";
import type { Checkpoint, Plan, RunConfig, TrainingRun } from "./run.ts";
import { Validation, type Pose, type ValidationOptions } from "./validation.ts";
import { trainVae, type SampledLatents } from "./vae.ts";

export interface PartTraining<Data extends BodyBatch>
  extends WorkOptions, Pick<DenoiserTraining<Data>, "count" | "shape" | "skipped" | "processes" | "data"> {
  avatar: Avatar;
  part: Model;
  run: TrainingRun;
  resume?: Checkpoint;
  compute: Compute;
  /** When the training began, as `performance.now` gives it, and how long it may take. */
  started: number;
  seconds: number;
  models: StartedModels;
  adapter: PersonAdapter | null;
  scheduler: DDPMScheduler;
  sampling: ValidationOptions["sampling"];
  /** How the VAE is trained, and on what; null: it is published and stays. */
  vae: { settings: VaeSettings; pictures: PictureSet } | null;
  validate: { times: number; poses: readonly Pose[]; prompts?: Prompts };
}

export interface PartResult {
  busy: number;
  overflowed: number;
  steps: number;
}

const planned = (run: TrainingRun, part: keyof RunConfig["plan"]) => (plan: Plan) => {
  run.config.plan[part] = plan.slice();
  run.save();
};

/** Trains the mini preset's VAE, of a base its decoder alone; a run that is past that takes it from its checkpoint. */
export async function startVae(
  o: Pick<PartTraining<BodyBatch>, "run" | "resume" | "seconds" | "processes" | "onProgress" | "signal" | "models"> & {
    vae: NonNullable<PartTraining<BodyBatch>["vae"]>;
  },
): Promise<void> {
  const { run, resume } = o;
  const { vae } = o.models;
  const { settings, pictures } = o.vae;
  const decoderOnly = run.config.from !== "nothing";
  if (resume && resume.phase !== "vae") {
    using file = run.openFile(resume, "vae");
    vae.loadStateDict(file, { what: file.path, device: vae.device });
    return;
  }
  await trainVae(vae, pictures, settings, {
    run,
    plan: run.config.plan.vae,
    seconds: o.seconds * (decoderOnly ? settings.decoderShare : settings.share),
    decoderOnly,
    processes: o.processes,
    resume,
    onPlanned: planned(run, "vae"),
    onProgress: o.onProgress,
    signal: o.signal,
  });
}

/** Steps of the VAE that a run took, at its start and at its end; none where it is published. */
export const vaeSteps = ({ config: { plan, preset } }: TrainingRun): { vae: number; decoder: number } => {
  const of = (p: Plan | undefined) => (preset === "mini" ? (p?.at(-1)?.total ?? 0) : 0);
  return { vae: of(plan.vae), decoder: of(plan.decoder) };
};

/** Trains and saves a part whose VAE is ready. */
export async function trainPart<Data extends BodyBatch>(o: PartTraining<Data>): Promise<PartResult> {
  const { run, resume, part, models, adapter, scheduler } = o;
  const { unet, controlnet, vae, encoder } = models;
  const { poses, times, prompts } = o.validate;
  const { config } = run;
  const validation =
    poses.length > 0 && prompts
      ? new Validation({ run, times, poses, models: { unet, controlnet, vae }, scheduler: scheduler.config, sampling: o.sampling, prompts })
      : undefined;
  const trained = adapter ? adapter.namedParameters() : [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
  const left = (share: number) => o.seconds * share - (performance.now() - o.started) / 1000;
  // Latents of another VAE would mean nothing to these weights.
  const vaeState = () => ({ vae: vae.stateDict() });
  let result = { busy: 1, overflowed: 0 };
  if (resume?.phase === "decoder") {
    using file = run.openFile(resume, "denoiser");
    scope(() => noGrad(() => trained.forEach(([name, p]) => void p.value.detach().copy_(file.read(name)))));
  } else {
    result = await trainDenoiser<Data>({
      ...o,
      phase: part,
      stage: `training the ${part} model`,
      seconds: Math.max(30, left(1 - (o.vae?.settings.finish.share ?? 0))),
      models: { unet, controlnet, scheduler },
      validation,
      alsoSaved: o.vae ? vaeState : undefined,
    });
  }
  if (o.vae) {
    const { settings, pictures } = o.vae;
    const sampled = await sampleLatents(o, settings);
    try {
      await trainVae(vae, pictures, settings, {
        ...o,
        plan: (config.plan.decoder ??= []),
        seconds: Math.max(10, left(1)),
        decoderOnly: true,
        sampled,
        alsoSaved: () => ({ ...vaeState(), denoiser: new Map(trained.map(([name, p]) => [name, p.value])) }),
        onPlanned: planned(run, "decoder"),
      });
    } finally {
      for (const t of [sampled.encoded, ...sampled.ways]) t.dispose();
    }
  }
  const steps = config.plan.body.at(-1)!.total;
  if (o.processes.main) {
    saveTrained(o.avatar, part, { unet, controlnet, vae, encoder }, o.vae ? scheduler.config : null, {
      from: config.from,
      recipe: config.recipe,
      steps,
      best: validation?.best ?? null,
      validated: poses.map((p) => p.frame),
      adapter,
    });
    config.finished = true;
    run.save();
    validation?.close();
  }
  return { ...result, steps };
}

/** Frames that are sampled at once. */
const batchSize = 8;

/**
 * Latents of training frames, evenly over the clip, as rendering will sample them and as the first step alone does, which is blurrier still:
 * what the person will be rendered with on poses that training never saw lies between.
 */
async function sampleLatents<Data extends BodyBatch>(o: PartTraining<Data>, { finish, batch }: VaeSettings): Promise<SampledLatents> {
  const { unet, controlnet } = o.models;
  const { device, precision } = o.compute;
  const { config } = o.run;
  // Of what the run keeps: going on, it samples the same ones.
  const wanted = config.minutes === null ? batch * (config.plan.decoder?.at(-1)?.total ?? 1) : finish.framesPerMinute * config.minutes;
  const n = Math.max(1, Math.min(o.count, finish.frames, Math.round(wanted)));
  const places = Array.from({ length: n }, (_, k) => Math.floor(((k + 0.5) * o.count) / n));
  const ways = [...new Set([o.sampling.steps, 1])].map((steps) => ({
    sampler: createSampler("ddim", o.scheduler.config, steps),
    latents: [] as Tensor[],
  }));
  const encoded: Tensor[] = [];
  try {
    for (let from = 0; from < n; from += batchSize) {
      o.signal?.throwIfAborted();
      const some = places.slice(from, from + batchSize);
      using g = new Generator(config.seed * 1_000_003 + from);
      using noise = noGrad(() => g.randn([some.length, ...o.shape]));
      const zeros = some.map(() => 0);
      const data: BodyBatch & Partial<HeadBatch> = await o.data(some, zeros, noise, g);
      try {
        encoded.push(scope(() => noGrad(() => keep(data.latents.clone()))));
        for (const { sampler, latents } of ways) {
          const predict = (x: Tensor, t: number): Tensor =>
            autocast(device, precision, () =>
              predictNoised(
                { unet, controlnet },
                x,
                some.map(() => t),
                data,
              ),
            ).to("float32");
          latents.push(
            scope(() =>
              noGrad(() =>
                keep(sampler.timesteps.reduce<Tensor>((x, t, k) => sampler.step(k, predict(x, t), x, []).sample, data.noise).clone()),
              ),
            ),
          );
        }
      } finally {
        release(data);
      }
      o.onProgress?.({ stage: "sampling frames for the decoder", done: Math.min(n, from + batchSize), total: n });
    }
    const joined = (parts: readonly Tensor[]) => scope(() => noGrad(() => keep(cat(parts, 0))));
    return { places, encoded: joined(encoded), ways: ways.map((w) => joined(w.latents)) };
  } finally {
    for (const t of [...encoded, ...ways.flatMap((w) => w.latents)]) t.dispose();
  }
}
