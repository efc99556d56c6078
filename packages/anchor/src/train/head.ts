/** `train head`: the inpainting UNet and its ControlNet on crops of one person's head; of the mini preset from nothing, its VAE first. */
import { cat, fromData, keep, noGrad, scope, type Generator, type Tensor } from "@make-your-anchor/torch";
import { DDPMScheduler, samplePosterior, type AutoencoderKL, type HeadBatch, type Posterior } from "@make-your-anchor/diffusion";
import { readImage, toLuma } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { resolveFrom, startFrom } from "../base.ts";
import { chooseCompute, peakGpuMiB, startPeak } from "../compute.ts";
import { PictureSet } from "../dataset.ts";
import { headKinds, headPath, prepareHeads, trainingHeads, type HeadsOptions, type HeadsReport } from "../head/heads.ts";
import { embedAppearance, embedPrompts, publishedScheduler, validatedFrames, type Prompts } from "../models.ts";
import { presets } from "../presets.ts";
import type { TrainOptions, TrainResult } from "./body.ts";
import { checkAmount, checkCount, requireMemory } from "./limits.ts";
import { vaeSteps, startVae, trainPart } from "./part.ts";
import { Processes } from "./processes.ts";
import { recipeOf } from "./recipe.ts";
import { openRun } from "./run.ts";
import { Skipped } from "./skipped.ts";
import { adapterRank, PersonAdapter } from "./adapter.ts";
import { validationFrames, type Pose } from "./validation.ts";

export interface HeadTrainResult extends Omit<TrainResult, "steps"> {
  steps: { vae: number; decoder: number; head: number };
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
  checkCount("validate", o.validate);
  const compute = chooseCompute(o, "training");
  const { device } = compute;
  const processes = new Processes(o.group);
  const heads = await processes.mainFirst(() => prepareHeads(avatar, o));
  const skipped = new Skipped(o.skipBad ?? false);
  const all = trainingHeads(avatar, heads);
  const frames = o.skipBad
    ? await skipped.readable(all, (f) =>
        PictureSet.load(
          headKinds.map((kind) => headPath(avatar, kind, f)),
          head.resolution,
        ),
      )
    : all;
  const full = head.training.vae === null;
  const from = resolveFrom(preset, o.from);
  const rank = adapterRank(o, from);
  const { unet, controlnet, vae, encoder } = startFrom(preset, "head", from);
  const latents = new CropLatents(vae, avatar, frames, head.resolution);
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
    const run = await processes.mainFirst(() =>
      openRun(
        avatar,
        "head",
        { ...o, ...compute, minutes, from, recipe: recipeOf(head.training, !full && from !== "nothing", o, rank), rank },
        6,
        processes.main,
      ),
    );
    const resume = run.latest();
    if (processes.main) run.rewindMetrics(resume);
    const seconds = (run.config.minutes ?? 10) * 60;
    const ofVae = head.training.vae && {
      settings: head.training.vae,
      pictures: await PictureSet.load(
        frames.map((i) => headPath(avatar, "aligned", i)),
        head.resolution,
      ),
    };
    const models = { unet, controlnet, vae, encoder };
    if (ofVae) await startVae({ ...o, vae: ofVae, run, resume, seconds, processes, models });
    if (from === "nothing") vae.config.scaling_factor = await latents.unitScale();
    appearance = keep(embedAppearance(encoder, await readImage(headPath(avatar, "aligned", frames[0]))));
    if (full) encoder.dispose();
    const context = appearance;
    const conditionsOf = (places: readonly number[]) =>
      PictureSet.load(
        places.map((k) => headPath(avatar, "conditions", frames[k])),
        head.resolution,
      );
    // Small ones are held; at full size they are read as they are needed, as the body's.
    const held = full ? null : await conditionsOf([...frames.keys()]);
    const data = async (places: readonly number[], timesteps: readonly number[], noise: Tensor, g: Generator): Promise<HeadBatch> => {
      const crops: Crop[] = [];
      for (const k of places) crops.push(await latents.at(k));
      using bytes = held ? held.batch(places) : (await conditionsOf(places)).batch([...places.keys()]);
      return scope(() =>
        noGrad(() => {
          const scale = vae.config.scaling_factor;
          // The full-size VAE's posteriors are drawn from, as the original does; the mini one's spread is fixed and its mean is taken.
          const drawn = (p: Posterior) => (full ? samplePosterior(p, g.randn(p.mean.shape).to(device)) : p.mean);
          const stacked = (of: (c: Crop) => Tensor) => cat(crops.map(of), 0);
          return {
            latents: stacked((c) => drawn(c.picture)).mul(scale),
            maskedImageLatents: stacked((c) => drawn(c.masked)).mul(scale),
            maskLatents: stacked((c) => c.mask),
            noise: noise.to(device).clone(),
            timesteps,
            context: context.expand([places.length, context.size(1), context.size(2)]),
            condition: bytes.to(device).to("float32").div(255),
          };
        }),
      );
    };
    const times = o.validate ?? (full && device === "cpu" ? 0 : 4);
    const validated = times
      ? validationFrames(
          heads.frames.filter((i) => i >= avatar.info.heldOutFrom),
          validatedFrames(avatar, "body"),
        )
      : [];
    const poses: Pose[] = [];
    for (const frame of validated) {
      const picture = async (kind: "aligned" | "conditions" | "masks") => readImage(headPath(avatar, kind, frame));
      const truth = await picture("aligned");
      poses.push({ frame, truth, condition: await picture("conditions"), inpaint: { image: truth, mask: await picture("masks") } });
    }
    prompts = full && poses.length > 0 ? await embedPrompts(avatar, head.sampling.guidanceScale !== 1, "", { device }, "head") : undefined;
    const { busy, overflowed, steps } = await trainPart<HeadBatch>({
      avatar,
      part: "head",
      run,
      resume,
      compute,
      started,
      seconds,
      models,
      adapter,
      scheduler: new DDPMScheduler(full ? publishedScheduler() : preset.scheduler),
      sampling: head.sampling,
      vae: ofVae,
      validate: { times, poses, prompts: prompts ?? { promptEmbeds: context } },
      processes,
      skipped,
      count: frames.length,
      shape: [vae.config.latent_channels, head.resolution / vae.factor, head.resolution / vae.factor],
      data,
      onProgress: o.onProgress,
      signal: o.signal,
    });

    return {
      run: run.folder,
      steps: { ...vaeSteps(run), head: steps },
      seconds: (performance.now() - started) / 1000,
      ...compute,
      peakGpuMiB: peakGpuMiB(compute),
      busy,
      overflowed,
      skipped: skipped.all,
      heads,
    };
  } finally {
    adapter?.detach();
    for (const m of [vae, encoder, unet, controlnet]) m.dispose();
    latents.dispose();
    appearance?.dispose();
    prompts?.promptEmbeds.dispose();
    prompts?.negativePromptEmbeds?.dispose();
  }
}
