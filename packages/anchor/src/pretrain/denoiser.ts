/**
 * Stage 1 of the mini preset's UNet, ControlNet and image encoder: made-up people, whole and their heads alone, in one model. The UNet is an
 * inpainting one. A body is what it paints where nothing is kept (mask zero) from a draft in the masked picture's place, so the same weights
 * without the mask's channel are a body's UNet, exactly; see `startFromBase`.
 */
import { autocast, cat, fromData, keep, noGrad, scope, zeros, type Generator, type Tensor } from "@make-your-anchor/torch";
import { clipPixels, DDPMScheduler, denoisingLoss, meshFocus, type HeadBatch } from "@make-your-anchor/diffusion";
import type { Precision } from "../compute.ts";
import { fromPlanes } from "../dataset.ts";
import type { StartedModels } from "../models/start.ts";
import type { FilmedPerson, PeopleWork } from "../people/film.ts";
import { presets } from "../presets.ts";
import { atTheEnd, drawNoiseless, stratifiedTimesteps, withoutNoise } from "../train/draw.ts";
import { plainGradients, trainLoop } from "../train/loop.ts";
import { PeoplePool, type PoolOptions } from "./pool.ts";
import type { SharedSettings } from "./pretrain.ts";

/** A long run wants a lower rate than a few minutes do. */
export const pretrainingRecipe = {
  accumulate: 1,
  lr: 8e-4,
  weightDecay: 1e-2,
  schedule: "cosine",
  warmup: 100,
  ema: 0.999,
  maxGradNorm: 1,
  batch: 8,
  /** A share of such samples gave a base that was no better (docs/design/mini-trials.md, "Tried against chance, beside dropout"). */
  noiseless: 0,
  /** So that guidance knows both ways. */
  dropAppearance: 0.1,
  /** Made-up backgrounds cannot be guessed. */
  background: 0.3,
} as const;
/** Every so many steps are of heads alone, which are a quarter as large: a pass has costs of its own, so few large ones are cheaper: `more` times the batch. */
const heads = { every: 4, more: 2 } as const;

/** Samples of one kind: whole frames, or heads. Made from bytes once, when a person comes. */
interface Samples {
  count: number;
  size: number;
  /** `[count, c, h, w]`, scaled. */
  latents: Tensor;
  /** `[count, 1, h, w]`, 1 is kept, and the latents of what is kept; of bodies zero, and those of their drafts. */
  mask: Tensor;
  masked: Tensor;
  /** `[count, 3, size, size]`. */
  conditions: Uint8Array;
  /** Who it is, by one picture as the image encoder wants it: `[1, 3, 224, 224]`. */
  look: Tensor;
}

interface Shots {
  pictures: Uint8Array;
  conditions: Uint8Array;
  drafts: Uint8Array;
  masks?: Uint8Array;
  reference?: Uint8Array;
}

interface Seen {
  body: Samples;
  head: Samples | null;
}

export async function pretrainDenoiser(
  { unet, controlnet, vae, encoder }: StartedModels,
  {
    loop,
    work,
    people,
    first,
    source,
    precision,
  }: {
    loop: SharedSettings;
    work: PeopleWork;
    people?: number;
    first: number;
    source: PoolOptions<unknown>["source"];
    precision: Precision;
  },
): Promise<DDPMScheduler> {
  const { device } = vae;
  const { recipe } = loop.run.config;
  const scheduler = new DDPMScheduler(presets.mini.scheduler);
  const pixels = (bytes: Uint8Array, count: number, size: number) =>
    fromData(bytes, [count, 3, size, size]).to(device).to("float32").div(127.5).sub(1);
  const encode = (x: Tensor) => vae.encode(x).mean.mul(vae.config.scaling_factor);

  const samples = (count: number, size: number, { pictures, conditions, drafts, masks, reference }: Shots): Samples =>
    scope(() =>
      noGrad(() => {
        const x = pixels(pictures, count, size);
        const latents = encode(x);
        const [, , h, w] = latents.shape;
        const drafted = pixels(drafts, count, size);
        const kept = masks && fromData(masks, [count, 1, size, size]).to(device).to("float32");
        return {
          count,
          size,
          latents: keep(latents.clone()),
          mask: keep(
            kept ? kept.slice(2, 0, null, vae.factor).slice(3, 0, null, vae.factor).contiguous() : zeros([count, 1, h, w], { device }),
          ),
          masked: keep(encode(kept ? drafted.add(x.sub(drafted).mul(kept)) : drafted).clone()),
          conditions,
          look: keep(clipPixels([fromPlanes((reference ?? pictures).subarray(0, 3 * size * size), size, size)], encoder.config.image_size)),
        };
      }),
    );
  const prepare = (p: FilmedPerson): Seen => ({
    body: samples(work.frames, work.size, p),
    head: p.heads.count > 0 ? samples(p.heads.count, work.headSize, p.heads) : null,
  });
  const pool = new PeoplePool<Seen>(
    {
      source,
      people: people ?? 48,
      stay: 10,
      first,
      onProgress: loop.onProgress,
      signal: loop.signal,
      prepare,
      release: ({ body, head }) => {
        for (const s of head ? [body, head] : [body]) for (const x of [s.latents, s.mask, s.masked, s.look]) x.dispose();
      },
    },
    loop.resume?.step ?? 0,
  );

  /** A batch of one kind; everything random is drawn from `g`. */
  const batchOf = (from: readonly Samples[], count: number, g: Generator): HeadBatch => {
    const picks = Array.from(g.randint(0, from.length, [count]).data(), Number).map((w) => from[w]);
    const u = g.rand([count]).floats();
    const frames = picks.map((s, b) => Math.min(s.count - 1, Math.floor(u[b] * s.count)));
    const known = g.rand([count, 1, 1]).ge(recipe.dropAppearance).to("float32").to(device);
    const { size } = picks[0];
    const n = 3 * size * size;
    const conditions = new Uint8Array(count * n);
    picks.forEach((s, b) => conditions.set(s.conditions.subarray(frames[b] * n, (frames[b] + 1) * n), b * n));
    const gather = (of: (s: Samples) => Tensor) =>
      cat(
        picks.map((s, b) => of(s).narrow(0, frames[b], 1)),
        0,
      );
    const latents = gather((s) => s.latents);
    const noiseless = drawNoiseless(g, count, recipe.noiseless);
    const steps = scheduler.config.num_train_timesteps;
    const condition = fromData(conditions, [count, 3, size, size]).to(device).to("float32").div(255);
    const looks = cat(
      picks.map((s) => s.look),
      0,
    );
    return {
      latents,
      maskLatents: gather((s) => s.mask),
      maskedImageLatents: gather((s) => s.masked),
      noise: withoutNoise(g.randn(latents.shape), noiseless).to(device),
      timesteps: atTheEnd(stratifiedTimesteps(g, count, steps), noiseless, steps - 1),
      context: encoder.forward(looks.to(device)).lastHiddenState.mul(known),
      condition,
      focus: meshFocus(condition, latents.size(2), recipe.background),
    };
  };

  const parts = { unet, controlnet, image_encoder: encoder };
  const named = Object.entries(parts).flatMap(([name, m]) => [...m.namedParameters(`${name}.`)]);
  const models = { unet, controlnet, scheduler };
  try {
    await trainLoop({
      ...loop,
      stage: "pre-training the model",
      recipe,
      parameters: named,
      gradients: async (batch) => {
        const { g } = batch;
        const present = await pool.at(batch.index);
        const bodies = present.map((s) => s.body);
        const faces = present.flatMap((s) => s.head ?? []);
        return plainGradients(batch, () =>
          autocast(device, precision, () =>
            denoisingLoss(
              models,
              faces.length > 0 && batch.index % heads.every === heads.every - 1
                ? batchOf(faces, heads.more * recipe.batch, g)
                : batchOf(bodies, recipe.batch, g),
            ),
          ),
        );
      },
    });
    return scheduler;
  } finally {
    await pool.close();
  }
}
