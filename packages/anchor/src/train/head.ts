/** `train head`: the inpainting UNet and its ControlNet on crops of one person's head; of the mini preset from nothing, its VAE first. */
import {
  autocast,
  backwardCheckpointed,
  cat,
  fromData,
  keep,
  noGrad,
  scope,
  segment,
  type Generator,
  type Tensor,
} from "@make-your-anchor/torch";
import { DDPMScheduler, headLoss, samplePosterior, type AutoencoderKL, type HeadBatch, type Posterior } from "@make-your-anchor/diffusion";
import { readImage, toLuma } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { chooseCompute, peakGpuMiB, startPeak } from "../compute.ts";
import { PictureSet } from "../dataset.ts";
import { AnchorError } from "../errors.ts";
import { headPath, prepareHeads, trainingHeads, type HeadsOptions, type HeadsReport } from "../head/heads.ts";
import { embedAppearance, publishedScheduler, saveTrained, startHead } from "../models.ts";
import { presets } from "../presets.ts";
import type { TrainOptions, TrainResult } from "./body.ts";
import { batchIndices, stratifiedTimesteps, uniformTimesteps } from "./draw.ts";
import { checkAmount, requireMemory } from "./limits.ts";
import { denoiserSettings, plainGradients, trainLoop } from "./loop.ts";
import { openRun } from "./run.ts";
import { trainVae } from "./vae.ts";

export interface HeadTrainResult extends Omit<TrainResult, "steps"> {
  steps: { vae: number; head: number };
  heads: HeadsReport;
}

/** A crop as the model learns from it; all but the condition as latents. */
interface Crop {
  picture: Posterior;
  /** The picture with its face blanked. */
  masked: Posterior;
  /** `[1, 1, h, w]`: 1 is kept. */
  mask: Tensor;
}

/** Crops by their place in `frames`: encoded when they are first asked for, and kept. */
class CropLatents {
  private readonly vae: AutoencoderKL;
  private readonly avatar: Avatar;
  private readonly frames: readonly number[];
  private readonly size: number;
  private readonly known = new Map<number, Crop>();

  constructor(vae: AutoencoderKL, avatar: Avatar, frames: readonly number[], size: number) {
    this.vae = vae;
    this.avatar = avatar;
    this.frames = frames;
    this.size = size;
  }
  async at(k: number): Promise<Crop> {
    const known = this.known.get(k);
    if (known) return known;
    const { vae, size } = this;
    const set = await PictureSet.load([headPath(this.avatar, "aligned", this.frames[k])], size);
    const kept = Float32Array.from(toLuma(await readImage(headPath(this.avatar, "masks", this.frames[k]))), (v) => (v >= 128 ? 1 : 0));
    const crop = scope(() =>
      noGrad(() => {
        const mask = fromData(kept, [1, 1, size, size], { device: vae.device });
        const pixels = set.batch([0]).to(vae.device).to("float32").div(127.5).sub(1);
        const own = ({ mean, logvar }: Posterior): Posterior => ({ mean: keep(mean.clone()), logvar: keep(logvar.clone()) });
        return {
          picture: own(vae.encode(pixels)),
          masked: own(vae.encode(pixels.mul(mask))),
          mask: keep(mask.slice(2, 0, null, vae.factor).slice(3, 0, null, vae.factor).contiguous()),
        };
      }),
    );
    this.known.set(k, crop);
    return crop;
  }
  /** The scaling factor that gives the pictures' latents unit variance. */
  async unitScale(): Promise<number> {
    const means: Tensor[] = [];
    for (let k = 0; k < this.frames.length; k++) means.push((await this.at(k)).picture.mean);
    return scope(() =>
      noGrad(() => {
        const all = cat(means, 0);
        return Number((1 / Math.sqrt(all.sub(all.mean()).square().mean().item())).toPrecision(6));
      }),
    );
  }
  dispose(): void {
    for (const { picture, masked, mask } of this.known.values())
      for (const t of [picture.mean, picture.logvar, masked.mean, masked.logvar, mask]) t.dispose();
  }
}

/** Trains an avatar's head model. Interrupted, the same call goes on where it stopped; the last part of the clip is never looked at. */
export async function trainHead(avatar: Avatar, o: TrainOptions & HeadsOptions = {}): Promise<HeadTrainResult> {
  const started = performance.now();
  const preset = presets[avatar.info.preset];
  const { head } = preset;
  const minutes = o.minutes ?? (o.steps === undefined ? 10 : undefined);
  checkAmount("minutes", minutes);
  checkAmount("steps", o.steps);
  const compute = chooseCompute(o, "training");
  const { device, precision } = compute;
  const heads = await prepareHeads(avatar, o);
  const frames = trainingHeads(avatar, heads);
  const full = head.models === null;
  const { unet, controlnet, vae, encoder } = startHead(head.models);
  const latents = new CropLatents(vae, avatar, frames, head.resolution);
  let appearance: Tensor | undefined;
  try {
    startPeak(compute);
    if (full) requireMemory(unet.parameterCount + controlnet.parameterCount, device);
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    const run = openRun(avatar, "head", { ...o, minutes }, 6);
    const { config } = run;
    const resume = run.latest();
    run.rewindMetrics(resume);
    const seconds = (config.minutes ?? 10) * 60;
    const planned = (part: "vae" | "body") => (plan: { step: number; total: number }[]) => {
      config.plan[part] = plan.slice();
      run.save();
    };
    if (!full) {
      if (resume?.phase === "head") {
        using file = run.openFile(resume, "vae");
        vae.loadStateDict(file, { what: file.path });
        vae.to(device);
      } else {
        const pictures = await PictureSet.load(
          frames.map((i) => headPath(avatar, "aligned", i)),
          head.resolution,
        );
        await trainVae(vae, pictures, head.training, {
          run,
          plan: config.plan.vae,
          seconds: seconds * head.training.vaeShare,
          resume,
          onPlanned: planned("vae"),
          onProgress: o.onProgress,
          signal: o.signal,
        });
      }
      vae.config.scaling_factor = await latents.unitScale();
    }
    appearance = keep(embedAppearance(encoder, await readImage(headPath(avatar, "aligned", frames[0]))));
    if (full) encoder.dispose();

    const scheduler = new DDPMScheduler(full ? publishedScheduler() : preset.scheduler);
    const t = head.training;
    const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
    const models = { unet, controlnet, scheduler };
    const context = appearance;
    const conditionsOf = (places: readonly number[]) =>
      PictureSet.load(
        places.map((k) => headPath(avatar, "conditions", frames[k])),
        head.resolution,
      );
    // Small ones are held; at full size they are read as they are needed, as the body's.
    const held = full ? null : await conditionsOf([...frames.keys()]);
    const shape = [vae.config.latent_channels, head.resolution / vae.factor, head.resolution / vae.factor];
    /** Everything random is drawn for the whole batch, in the samples' order. The caller disposes what it holds. */
    const batchOf = async (places: readonly number[], timesteps: readonly number[], noise: Tensor, g: Generator): Promise<HeadBatch> => {
      const crops: Crop[] = [];
      for (const k of places) crops.push(await latents.at(k));
      using bytes = held ? held.batch(places) : (await conditionsOf(places)).batch([...places.keys()]);
      return scope(() =>
        noGrad(() => {
          const scale = vae.config.scaling_factor;
          // The full-size VAE's posteriors are drawn from, as the original does; the mini one's spread is fixed and its mean is taken.
          const drawn = (p: Posterior) => (full ? samplePosterior(p, g.randn(p.mean.shape).to(device)) : p.mean);
          return {
            latents: cat(
              crops.map((c) => drawn(c.picture)),
              0,
            ).mul(scale),
            maskedImageLatents: cat(
              crops.map((c) => drawn(c.masked)),
              0,
            ).mul(scale),
            maskLatents: cat(
              crops.map((c) => c.mask),
              0,
            ),
            noise: noise.to(device),
            timesteps,
            context: context.expand([places.length, context.size(1), context.size(2)]),
            condition: bytes.to(device).to("float32").div(255),
          };
        }),
      );
    };
    const release = (b: HeadBatch) => {
      for (const x of [b.latents, b.maskedImageLatents, b.maskLatents, b.noise, b.context, b.condition]) x.dispose();
    };
    await trainLoop({
      ...denoiserSettings(t, full),
      run,
      phase: "head",
      alsoSaved: full ? undefined : () => ({ vae: vae.stateDict() }),
      stage: "training the head model",
      parameters: named,
      clipped: full ? controlnet.parameters() : named.map(([, p]) => p),
      seed: config.seed,
      plan: config.plan.body,
      seconds: Math.max(30, seconds - (performance.now() - started) / 1000),
      resume,
      onPlanned: planned("body"),
      onProgress: o.onProgress,
      signal: o.signal,
      gradients: async (step, g) => {
        const places = batchIndices(frames.length, t.batch, step, config.seed);
        const draw = full ? uniformTimesteps : stratifiedTimesteps;
        const timesteps = draw(g, t.batch, scheduler.config.num_train_timesteps);
        using noise = g.randn([t.batch, ...shape]);
        if (!full) {
          const batch = await batchOf(places, timesteps, noise, g);
          try {
            return plainGradients(() => autocast(device, precision, () => headLoss(models, batch)));
          } finally {
            release(batch);
          }
        }
        // One sample at a time, with checkpoints, as the body's.
        let total = 0;
        for (const [k, place] of places.entries()) {
          o.signal?.throwIfAborted();
          using one = noGrad(() => noise.narrow(0, k, 1));
          const batch = await batchOf([place], [timesteps[k]], one, g);
          try {
            total += autocast(device, precision, () =>
              backwardCheckpointed(() => segment([headLoss(models, batch)], ([l]) => l.mul(1 / t.batch))),
            );
          } finally {
            release(batch);
          }
        }
        return total;
      },
    });

    saveTrained(avatar, "head", { unet, controlnet, vae, encoder }, full ? null : scheduler.config);
    config.finished = true;
    run.save();
    const last = run.latest();
    if (!last) throw new AnchorError("CHECKPOINT", `${run.folder}: no state was saved`);
    return {
      run: run.folder,
      steps: { vae: full ? 0 : (config.plan.vae.at(-1)?.total ?? 0), head: last.step },
      seconds: (performance.now() - started) / 1000,
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
      heads,
    };
  } finally {
    for (const m of [vae, encoder, unet, controlnet]) m.dispose();
    latents.dispose();
    appearance?.dispose();
  }
}
