/** A batch of UNet and ControlNet training: what is random about it, and its gradients, whole or sample by sample. */
import { autocast, backwardCheckpointed, keep, noGrad, scope, segment, type Generator, type Tensor } from "@make-your-anchor/torch";
import { Dropout, meshFocus, minSnrWeights, type BodyBatch, type DDPMScheduler } from "@make-your-anchor/diffusion";
import type { Precision } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { atTheEnd, batchIndices, drawNoiseless, stratifiedTimesteps, uniformTimesteps, withoutNoise } from "./draw.ts";
import { plainGradients, type Batch } from "./loop.ts";
import type { Processes } from "./processes.ts";
import type { Recipe } from "./recipe.ts";
import type { Skipped } from "./skipped.ts";

export interface DenoisingTask<Data extends BodyBatch> {
  recipe: Recipe;
  scheduler: DDPMScheduler;
  /** Samples there are, and the seed of their order. */
  count: number;
  seed: number;
  /** Of a sample's latents, `[C, h, w]`. */
  shape: readonly number[];
  device: string;
  precision: Precision;
  signal?: AbortSignal;
  skipped: Skipped;
  processes: Processes;
  /**
   * Some of the samples, by their places; its tensors go with the batch. The timesteps are as they were drawn, whatever becomes of them. Context `[B, M, C]`; where it has a focus of its own, that is followed.
   */
  data: (places: readonly number[], timesteps: readonly number[], noise: Tensor, g: Generator) => Promise<Data>;
  loss: (batch: Data) => Tensor;
}

/** The loop's `gradients`. Everything random is drawn for the whole batch, in the samples' order, however they are computed. */
export function denoisingGradients<Data extends BodyBatch>(task: DenoisingTask<Data>): (batch: Batch) => Promise<number> {
  const { recipe, scheduler, device } = task;
  const { batch: size } = recipe;
  const own = task.processes.slice(size);
  if (recipe.noiseless > 0 && !scheduler.config.rescale_betas_zero_snr)
    throw new AnchorError(
      "OPTION",
      `noiseless: expected 0, as this model's schedule is not one that ends in pure noise, got ${recipe.noiseless}: leave it out`,
      { misuse: true },
    );
  return async (batch) => {
    const { g, index, scale } = batch;
    const places = batchIndices(task.count, size, index, task.seed);
    const draw = recipe.timesteps === "uniform" ? uniformTimesteps : stratifiedTimesteps;
    const last = scheduler.config.num_train_timesteps - 1;
    const drawn = draw(g, size, last + 1);
    const noiseless = drawNoiseless(g, size, recipe.noiseless);
    const timesteps = atTheEnd(drawn, noiseless, last);
    using noise = scope(() => keep(withoutNoise(offset(g.randn([size, ...task.shape]), g), noiseless)));
    const seeds = recipe.dropout > 0 ? scope(() => Array.from(g.randint(0, Dropout.seedLimit, [size]).data(), Number)) : null;
    const known = recipe.dropAppearance > 0 ? scope(() => g.rand([size]).floats()).map((u) => (u < recipe.dropAppearance ? 0 : 1)) : null;
    const weights = recipe.minSnr > 0 ? minSnrWeights(scheduler, timesteps, recipe.minSnr) : undefined;
    const part = async (from: number, count: number): Promise<Data> => {
      using ofPart = noGrad(() => noise.narrow(0, from, count));
      const range = (x: readonly number[]) => x.slice(from, from + count);
      const at = range(drawn);
      const data = await task.skipped.with(
        range(places),
        task.count,
        (some) => task.data(some, at.slice(0, some.length), ofPart, g),
        release,
      );
      if (known && known.slice(from, from + count).includes(0)) {
        const { context } = data;
        data.context = noGrad(() => context.clone());
        context.dispose();
        scope(() =>
          noGrad(() => {
            for (let b = 0; b < count; b++) if (known[from + b] === 0) data.context.narrow(0, b, 1).fill_(0);
          }),
        );
      }
      const focus =
        recipe.background === 1 || data.focus
          ? data.focus
          : scope(() => noGrad(() => keep(meshFocus(data.condition.to(device), data.latents.size(2), recipe.background))));
      const dropout = seeds ? new Dropout(recipe.dropout, range(seeds)) : undefined;
      return { ...data, timesteps: range(timesteps), weights: weights && range(weights), focus, dropout };
    };
    const run = (data: Data): Tensor => autocast(device, task.precision, () => task.loss(data));
    if (!recipe.checkpointing) {
      const data = await part(own.from, own.count);
      const share = own.count / size;
      try {
        return plainGradients({ ...batch, scale: scale * share }, () => run(data)) * share;
      } finally {
        release(data);
      }
    }
    let total = 0;
    for (let k = own.from; k < own.from + own.count; k++) {
      task.signal?.throwIfAborted();
      const data = await part(k, 1);
      try {
        // The backward pass runs the segments again, in the same precision.
        total += batch.compute(() =>
          autocast(device, task.precision, () => backwardCheckpointed(() => segment([task.loss(data)], ([l]) => l.mul(scale / size)))),
        );
      } finally {
        release(data);
      }
    }
    return total / scale;
  };

  function offset(noise: Tensor, g: Generator): Tensor {
    if (recipe.noiseOffset === 0) return noise;
    return noGrad(() => noise.add(g.randn([size, task.shape[0], 1, 1]).mul(recipe.noiseOffset)));
  }
}

/** Frees a batch's tensors. */
export function release(data: BodyBatch): void {
  for (const value of Object.values(data) as unknown[]) if (value instanceof Object && "dispose" in value) (value as Tensor).dispose();
}
