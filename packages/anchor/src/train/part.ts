/**
 * What training a body and training a head share once their samples are there: the VAE, UNet and ControlNet, the decoder once more for what
 * those sample, trying the result on held-out poses, and keeping it.
 */
import { autocast, cat, Generator, keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { createSampler, predictNoised, startOf, type BodyBatch, type HeadBatch } from "@make-your-anchor/diffusion";
import { spread, type PictureSet } from "../dataset.ts";
import type { Draft } from "../draft/draft.ts";
import type { Prompts } from "../models/load.ts";
import type { Provenance } from "../models/provenance.ts";
import { saveTrained } from "../models/save.ts";
import type { VaeSettings } from "../presets.ts";
import { release } from "./denoising.ts";
import { trainDenoiser, type DenoiserTraining } from "./denoiser.ts";
import type { Plan, RunConfig, TrainingRun } from "./run.ts";
import type { StartedTraining } from "./started.ts";
import { Validation, type Best, type Pose } from "./validation.ts";
import { trainVae, type SampledLatents } from "./vae.ts";

/** What a part is trained on. */
export interface PartSamples<Data extends BodyBatch> extends Pick<DenoiserTraining<Data>, "count" | "shape" | "data"> {
  /** Held-out poses that the result is tried on, and what they are guided by. */
  poses: readonly Pose[];
  prompts: Prompts;
  /** How the VAE is trained, and on what; null: it is published and stays. */
  vae: TrainedVae | null;
  /** What the frames are painted from, of models that are. */
  draft?: Draft;
  /** Of heads, see `Provenance`. */
  paints?: Provenance["paints"];
}

export interface TrainedVae {
  settings: VaeSettings;
  pictures: PictureSet;
}

export interface PartResult {
  busy: number;
  overflowed: number;
  steps: number;
  best: Best | null;
}

const planned = (run: TrainingRun, part: keyof RunConfig["plan"]) => (plan: Plan) => {
  run.config.plan[part] = plan.slice();
  run.save();
};

/** Trains the mini preset's VAE, of a base its decoder alone; a run that is past that takes it from its checkpoint. */
export async function startVae(t: StartedTraining, { settings, pictures }: TrainedVae): Promise<void> {
  const { run, resume, seconds } = t;
  const { vae } = t.models;
  const decoderOnly = run.config.from !== "nothing";
  if (resume && resume.phase !== "vae") {
    using file = run.openFile(resume, "vae");
    vae.loadStateDict(file, { what: file.path, device: vae.device });
    return;
  }
  const { processes, options } = t.asked;
  await trainVae(vae, pictures, settings, {
    run,
    plan: run.config.plan.vae,
    seconds: seconds * (decoderOnly ? settings.decoderShare : settings.share),
    decoderOnly,
    processes,
    resume,
    onPlanned: planned(run, "vae"),
    onProgress: options.onProgress,
    signal: options.signal,
  });
}

/** Steps of the VAE that a run took, at its start and at its end; none where it is published. */
export const vaeSteps = ({ config: { plan, preset } }: TrainingRun): { vae: number; decoder: number } => {
  const of = (p: Plan | undefined) => (preset === "mini" ? (p?.at(-1)?.total ?? 0) : 0);
  return { vae: of(plan.vae), decoder: of(plan.decoder) };
};

/** Trains and saves a part whose VAE is ready. */
export async function trainPart<Data extends BodyBatch>(t: StartedTraining, samples: PartSamples<Data>): Promise<PartResult> {
  const { run, resume, models, adapter, scheduler, asked } = t;
  const { avatar, part, processes, skipped, trials, settings, compute } = asked;
  const { onProgress, signal } = asked.options;
  const { unet, controlnet, vae } = models;
  const { config } = run;
  const { poses, prompts, draft } = samples;
  const validation =
    poses.length > 0
      ? new Validation({ run, times: trials, poses, models, scheduler: scheduler.config, sampling: settings.sampling, prompts, draft })
      : undefined;
  const trained = adapter ? adapter.namedParameters() : [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
  const finish = samples.vae ? samples.vae.settings.finish[config.from === "nothing" ? "share" : "tunedShare"] : 0;
  const left = (share: number) => t.seconds * share - (performance.now() - asked.began) / 1000;
  // Latents of another VAE would mean nothing to these weights.
  const vaeState = () => ({ vae: vae.stateDict() });
  let result = { busy: 1, overflowed: 0 };
  if (resume?.phase === "decoder") {
    using file = run.openFile(resume, "denoiser");
    scope(() => noGrad(() => trained.forEach(([name, p]) => void p.value.detach().copy_(file.read(name)))));
  } else {
    result = await trainDenoiser<Data>({
      ...samples,
      run,
      resume,
      phase: part,
      stage: `training the ${part} model`,
      seconds: Math.max(30, left(1 - finish)),
      compute,
      models: { unet, controlnet, scheduler },
      adapter,
      processes,
      skipped,
      validation,
      alsoSaved: samples.vae ? vaeState : undefined,
      onProgress,
      signal,
    });
  }
  if (samples.vae) {
    const sampled = await sampleLatents(t, samples, samples.vae.settings);
    try {
      await trainVae(vae, samples.vae.pictures, samples.vae.settings, {
        run,
        resume,
        plan: (config.plan.decoder ??= []),
        seconds: Math.max(10, left(1)),
        decoderOnly: true,
        sampled,
        processes,
        alsoSaved: () => ({ ...vaeState(), denoiser: new Map(trained.map(([name, p]) => [name, p.value])) }),
        onPlanned: planned(run, "decoder"),
        onProgress,
        signal,
      });
    } finally {
      for (const x of [sampled.encoded, ...sampled.ways]) x.dispose();
    }
  }
  const steps = config.plan.body.at(-1)!.total;
  const best = validation?.best ?? null;
  if (processes.main) {
    saveTrained(avatar, part, models, samples.vae ? scheduler.config : null, {
      from: config.from,
      recipe: config.recipe,
      steps,
      best,
      validated: poses.map((p) => p.frame),
      adapter,
      draft,
      paints: samples.paints,
    });
    config.finished = true;
    run.save();
    validation?.close();
  }
  return { ...result, steps, best };
}

/** Frames that are sampled at once. */
const batchSize = 8;

/**
 * Latents of training frames, evenly over the clip, as rendering will sample them and as the first step alone does, which is blurrier still:
 * what the person will be rendered with on poses that training never saw lies between.
 */
async function sampleLatents<Data extends BodyBatch>(
  { asked, models, run: { config }, scheduler }: StartedTraining,
  { count, shape, data: batchOf }: PartSamples<Data>,
  { finish, batch }: VaeSettings,
): Promise<SampledLatents> {
  const { device, precision } = asked.compute;
  const { onProgress, signal } = asked.options;
  // Of what the run keeps: going on, it samples the same ones.
  const wanted = config.minutes === null ? batch * (config.plan.decoder?.at(-1)?.total ?? 1) : finish.framesPerMinute * config.minutes;
  const n = Math.max(1, Math.min(count, finish.frames, Math.round(wanted)));
  const places = spread(n, count);
  const ways = [...new Set([asked.settings.sampling.steps, 1])].map((steps) => ({
    sampler: createSampler("ddim", scheduler.config, steps),
    latents: [] as Tensor[],
  }));
  const encoded: Tensor[] = [];
  try {
    for (let from = 0; from < n; from += batchSize) {
      signal?.throwIfAborted();
      const some = places.slice(from, from + batchSize);
      using g = new Generator(config.seed * 1_000_003 + from);
      using noise = noGrad(() => g.randn([some.length, ...shape]));
      const zeros = some.map(() => 0);
      const data: BodyBatch & Partial<HeadBatch> = await batchOf(some, zeros, noise, g);
      try {
        encoded.push(scope(() => noGrad(() => keep(data.latents.clone()))));
        for (const { sampler, latents } of ways) {
          const predict = (x: Tensor, t: number): Tensor =>
            autocast(device, precision, () =>
              predictNoised(
                models,
                x,
                some.map(() => t),
                data,
              ),
            ).to("float32");
          latents.push(
            scope(() =>
              noGrad(() =>
                keep(
                  sampler.timesteps
                    .reduce<Tensor>(
                      (x, t, k) => sampler.step(k, predict(x, t), x, []).sample,
                      startOf(sampler, scheduler.config, data.noise),
                    )
                    .clone(),
                ),
              ),
            ),
          );
        }
      } finally {
        release(data);
      }
      onProgress?.({ stage: "sampling frames for the decoder", done: Math.min(n, from + batchSize), total: n });
    }
    const joined = (parts: readonly Tensor[]) => scope(() => noGrad(() => keep(cat(parts, 0))));
    return { places, encoded: joined(encoded), ways: ways.map((w) => joined(w.latents)) };
  } finally {
    for (const t of [...encoded, ...ways.flatMap((w) => w.latents)]) t.dispose();
  }
}
