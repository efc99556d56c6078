/**
 * Stage 1 at full size: published UNet and ControlNet on many people's pictures, as the original's `train_body.py` and `train_head.py` on its five speakers. The
 * result lies in `DIR/body` or `DIR/head`, as the original releases its pre-trained weights, and is what `train --from DIR` starts from.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cat, fromData, keep, noGrad, scope, type Generator, type Tensor } from "@make-your-anchor/torch";
import { DDPMScheduler, samplePosterior, saveModel, type BodyBatch, type HeadBatch, type Posterior } from "@make-your-anchor/diffusion";
import { readImage, resizePil, toLuma, type RgbImage } from "@make-your-anchor/media";
import { startFrom } from "../base.ts";
import { claim } from "../claim.ts";
import { chooseCompute, type ComputeOptions } from "../compute.ts";
import { toPlanes } from "../dataset.ts";
import { AnchorError } from "../errors.ts";
import { makeFolder, replaceFolder } from "../files.ts";
import { embedAppearance } from "../models/load.ts";
import type { Model } from "../models/provenance.ts";
import { modelConfig } from "../models/save.ts";
import { publishedScheduler } from "../models/start.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { trainDenoiser } from "../train/denoiser.ts";
import { checkAmount, requireMemory } from "../train/limits.ts";
import { Processes } from "../train/processes.ts";
import { recipeOf, type RecipeOptions } from "../train/recipe.ts";
import { sameSettings, TrainingRun } from "../train/run.ts";
import { Skipped } from "../train/skipped.ts";
import { datasetRows, type Row } from "./dataset.ts";
import type { PretrainResult } from "./pretrain.ts";

export interface FullPretrainOptions extends WorkOptions, ComputeOptions, RecipeOptions {
  part: Model;
  /** Folders of avatars, or the original's lists (`datasetRows`). */
  data: readonly string[];
  minutes?: number;
  steps?: number;
  /** A folder with UNet and ControlNet to start from; default the published ones. */
  from?: string;
  /** Side of the pictures; default the preset's: 512, of heads 256. */
  resolution?: number;
  skipBad?: boolean;
  fresh?: boolean;
}

/** Bytes that encoded pictures and appearances may take; those beyond are encoded anew. */
const cacheBytes = 2 * 2 ** 30;

/** What was made for a key, while there is room. */
class Cache<T> {
  private readonly known = new Map<string, T>();
  private readonly room: number;
  private readonly dispose: (value: T) => void;

  constructor(room: number, dispose: (value: T) => void) {
    this.room = room;
    this.dispose = dispose;
  }
  async get(key: string, make: () => Promise<T>): Promise<T> {
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const made = await make();
    if (this.known.size >= this.room) {
      const [oldest, value] = this.known.entries().next().value!;
      this.known.delete(oldest);
      this.dispose(value);
    }
    this.known.set(key, made);
    return made;
  }
  clear(): void {
    for (const v of this.known.values()) this.dispose(v);
    this.known.clear();
  }
}

/** A sample's pictures as latents: means and spreads of each, drawn from anew every time. */
interface Encoded {
  picture: Posterior;
  masked: Posterior | null;
  mask: Tensor | null;
}

/** @throws {AnchorError} `DATASET`, `NEEDS_WEIGHTS`, or `FINISHED` where the part was trained to its end */
export async function pretrainFull(folder: string, o: FullPretrainOptions): Promise<PretrainResult & { skipped: string[] }> {
  const started = performance.now();
  const preset = presets.sd15;
  const head = o.part === "head";
  const { resolution, training } = head ? preset.head : preset;
  const size = o.resolution ?? resolution;
  const minutes = o.minutes ?? (o.steps === undefined ? 60 : undefined);
  checkAmount("minutes", minutes);
  checkAmount("steps", o.steps);
  const compute = chooseCompute(o, "training");
  const { device } = compute;
  const from = o.from ?? "published";
  const recipe = recipeOf(training, false, o);
  const rows = (await datasetRows(o.data, head, o)).filter((r) => (r.mask !== null) === head);
  if (rows.length === 0)
    throw new AnchorError(
      "DATASET",
      `${o.data.join(", ")}: no ${head ? "heads (samples with a mask)" : "bodies (samples without a mask)"}`,
      {
        misuse: true,
      },
    );
  const { unet, controlnet, vae, encoder } = startFrom(preset, o.part, from);
  const { factor } = vae;
  const side = size / factor;
  const perSample = 4 * 2 * vae.config.latent_channels * side * side * (head ? 2 : 1);
  const posteriors = new Cache<Encoded>(Math.max(8, Math.floor(cacheBytes / perSample)), ({ picture, masked, mask }) => {
    for (const t of [picture.mean, picture.logvar, masked?.mean, masked?.logvar, mask]) t?.dispose();
  });
  const appearances = new Cache<Tensor>(4096, (t) => t.dispose());
  try {
    requireMemory({ trained: unet.parameterCount + controlnet.parameterCount, frozen: 0 }, device);
    for (const m of [unet, controlnet, vae, encoder]) m.to(device);
    makeFolder(folder);
    const runFolder = join(folder, "runs", o.part);
    using _ = claim(`${runFolder}.lock`, `${folder}: ${o.part} is being trained`);
    if (o.fresh) rmSync(runFolder, { recursive: true, force: true });
    const run = TrainingRun.at(runFolder, {
      target: o.part,
      preset: preset.name,
      plan: { vae: [], body: o.steps === undefined ? [] : [{ step: 0, total: Math.max(1, Math.round(o.steps)) }] },
      minutes: minutes ?? null,
      from,
      recipe,
      precision: compute.precision,
      rank: null,
      seed: 17,
      finished: false,
    });
    run.requireUnfinished();
    sameSettings(run, { from, recipe, rank: null });
    const resume = run.latest();
    run.rewindMetrics(resume);
    const scheduler = new DDPMScheduler(publishedScheduler());
    const models = { unet, controlnet, scheduler };
    const skipped = new Skipped(o.skipBad ?? false);
    const at = (image: RgbImage): RgbImage =>
      image.width === size && image.height === size ? image : resizePil(image, size, size, "bilinear");
    const bytes = async (path: string) => fromData(toPlanes(at(await readImage(path))), [1, 3, size, size]);

    const encode = async (row: Row): Promise<Encoded> => {
      using raw = await bytes(row.picture);
      const kept = row.mask === null ? null : Float32Array.from(toLuma(at(await readImage(row.mask))), (v) => (v >= 128 ? 1 : 0));
      return scope(() =>
        noGrad(() => {
          const own = ({ mean, logvar }: Posterior): Posterior => ({ mean: keep(mean.clone()), logvar: keep(logvar.clone()) });
          const x = raw.to(device).to("float32").div(127.5).sub(1);
          const mask = kept && fromData(kept, [1, 1, size, size], { device });
          return {
            picture: own(vae.encode(x)),
            masked: mask && own(vae.encode(x.mul(mask))),
            mask: mask && keep(mask.slice(2, 0, null, factor).slice(3, 0, null, factor).contiguous()),
          };
        }),
      );
    };
    const data = async (
      places: readonly number[],
      timesteps: readonly number[],
      noise: Tensor,
      g: Generator,
    ): Promise<BodyBatch | HeadBatch> => {
      const some = places.map((k) => rows[k]);
      const scale = vae.config.scaling_factor;
      const parts: { latents: Tensor; masked: Tensor | null; mask: Tensor | null; context: Tensor; condition: Tensor }[] = [];
      try {
        for (const row of some) {
          const { picture, masked, mask } = await posteriors.get(row.picture, () => encode(row));
          const draw = (p: Posterior) => scope(() => noGrad(() => keep(samplePosterior(p, g.randn(p.mean.shape).to(device)).mul(scale))));
          parts.push({
            latents: draw(picture),
            masked: masked && draw(masked),
            mask: mask && noGrad(() => keep(mask.clone())),
            context: await appearances
              .get(row.reference, async () => keep(embedAppearance(encoder, at(await readImage(row.reference)))))
              .then((t) => noGrad(() => keep(t.clone()))),
            condition: await bytes(row.condition),
          });
        }
        return scope(() =>
          noGrad(() => {
            const stacked = (of: (p: (typeof parts)[number]) => Tensor) => cat(parts.map(of), 0);
            const batch: BodyBatch = {
              latents: stacked((p) => p.latents),
              noise: noise.to(device).clone(),
              timesteps,
              context: stacked((p) => p.context),
              condition: stacked((p) => p.condition)
                .to(device)
                .to("float32")
                .div(255),
            };
            return head ? { ...batch, maskLatents: stacked((p) => p.mask!), maskedImageLatents: stacked((p) => p.masked!) } : batch;
          }),
        );
      } finally {
        for (const p of parts) for (const t of Object.values(p)) t?.dispose();
      }
    };
    await trainDenoiser<BodyBatch | HeadBatch>({
      run,
      phase: o.part,
      stage: `pre-training the ${o.part} model`,
      seconds: (run.config.minutes ?? 60) * 60,
      resume,
      compute,
      models,
      processes: new Processes(),
      skipped,
      count: rows.length,
      shape: [vae.config.latent_channels, side, side],
      data,
      onProgress: o.onProgress,
      signal: o.signal,
    });
    const fresh = join(folder, `${o.part}.new`);
    if (existsSync(fresh)) rmSync(fresh, { recursive: true });
    saveModel(join(fresh, "unet"), unet, modelConfig(unet));
    saveModel(join(fresh, "controlnet"), controlnet, modelConfig(controlnet));
    replaceFolder(fresh, join(folder, o.part));
    run.config.finished = true;
    run.save();
    return { part: o.part, folder, steps: run.latest()!.step, seconds: (performance.now() - started) / 1000, skipped: skipped.all };
  } finally {
    for (const m of [unet, controlnet, vae, encoder]) m.dispose();
    posteriors.clear();
    appearances.clear();
  }
}
