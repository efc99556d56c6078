import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backward, fromData, Generator, keep, scope, segment, zeros, Parameter, type Tensor } from "@make-your-anchor/torch";
import { DDPMScheduler, type BodyBatch } from "@make-your-anchor/diffusion";
import { denoisingGradients, type DenoisingTask } from "./denoising.ts";
import type { Batch } from "./loop.ts";
import { Processes } from "./processes.ts";
import { referenceRecipe, type Recipe } from "./recipe.ts";
import { Skipped } from "./skipped.ts";

const seen: BodyBatch[] = [];
let p: Parameter;
beforeAll(() => {
  p = new Parameter([2], (shape) => zeros(shape));
  p.set(fromData(Float32Array.of(0.5, -0.3), [2]));
  p.value.requiresGrad_();
});
afterAll(() => {
  p.dispose();
  for (const b of seen) for (const t of [b.latents, b.noise, b.context]) t.dispose();
});

/** A task whose loss is plain arithmetic over everything a batch holds. */
const task = (recipe: Partial<Recipe>, o: Partial<DenoisingTask<BodyBatch>> = {}): DenoisingTask<BodyBatch> => ({
  recipe: { ...referenceRecipe, batch: 4, ...recipe },
  scheduler: new DDPMScheduler(),
  count: 9,
  seed: 4,
  shape: [2, 1, 1],
  device: "cpu",
  precision: "float32",
  skipped: new Skipped(false),
  processes: new Processes(),
  data: async (places, timesteps, noise) => ({
    latents: fromData(Float32Array.from(places), [places.length, 1, 1, 1]),
    noise: scope(() => keep(noise.clone())),
    timesteps,
    context: fromData(new Float32Array(places.length * 3).fill(1), [places.length, 1, 3]),
    condition: zeros([places.length, 3, 1, 1]),
  }),
  loss: (b) => {
    const copy = (t: Tensor) => scope(() => keep(t.clone()));
    seen.push({ ...b, latents: copy(b.latents), noise: copy(b.noise), context: copy(b.context) });
    const x = b.noise
      .flatten(1)
      .mul(p.value)
      .sum([1])
      .add(b.latents.flatten())
      .add(b.context.flatten(1).sum([1]));
    return x.square().mean();
  },
  ...o,
});
const batch = (index: number, g: Generator, scale = 1): Batch => ({ index, progress: 0, g, scale, compute: (work) => work() });

async function run(t: DenoisingTask<BodyBatch>, scale = 1): Promise<{ loss: number; grad: number[]; seen: BodyBatch[] }> {
  seen.length = 0;
  p.value.grad?.zero_();
  using g = new Generator(8);
  const loss = await denoisingGradients(t)(batch(2, g, scale));
  return { loss, grad: Array.from(p.value.grad!.floats()), seen: seen.slice() };
}

describe("a batch's gradients", () => {
  test("sample by sample with checkpoints they are the whole batch's, and the loss's scale is in the gradients alone", async () => {
    const whole = await run(task({}));
    const parts = await run(task({ checkpointing: true }));
    const scaled = await run(task({ checkpointing: true }), 8);
    expect(parts.seen.length).toBeGreaterThanOrEqual(4);
    expect(parts.loss).toBeCloseTo(whole.loss, 5);
    expect(scaled.loss).toBeCloseTo(whole.loss, 5);
    parts.grad.forEach((v, k) => expect(v).toBeCloseTo(whole.grad[k], 4));
    scaled.grad.forEach((v, k) => expect(v / 8).toBeCloseTo(whole.grad[k], 4));
  });

  test("a share of the appearances is left out, whole ones, and the noise stays what it was", async () => {
    const plain = await run(task({ batch: 8 }));
    const dropped = await run(task({ batch: 8, dropAppearance: 0.5 }));
    const sums = Array.from({ length: 8 }, (_, b) => scope(() => dropped.seen[0].context.narrow(0, b, 1).sum().item()));
    expect(new Set(sums)).toEqual(new Set([0, 3]));
    expect(Array.from(dropped.seen[0].noise.floats())).toEqual(Array.from(plain.seen[0].noise.floats()));
    expect((await run(task({ dropAppearance: 1 }))).seen[0].context.floats().every((v) => v === 0)).toBe(true);
  });

  test("an offset moves a channel's noise as a whole", async () => {
    const shape = { shape: [2, 3, 3] as const, loss: task({}).loss };
    const flat = (b: BodyBatch[]) => b[0].noise.floats();
    const loss = (b: BodyBatch) => {
      seen.push({
        ...b,
        noise: scope(() => keep(b.noise.clone())),
        latents: scope(() => keep(b.latents.clone())),
        context: scope(() => keep(b.context.clone())),
      });
      return b.noise.mean().mul(p.value.sum());
    };
    const plain = flat((await run(task({}, { ...shape, loss }))).seen);
    const offset = flat((await run(task({ noiseOffset: 0.5 }, { ...shape, loss }))).seen);
    for (let channel = 0; channel < 8; channel++) {
      const shift = Array.from({ length: 9 }, (_, i) => offset[channel * 9 + i] - plain[channel * 9 + i]);
      expect(Math.abs(shift[0])).toBeGreaterThan(1e-3);
      for (const s of shift) expect(s).toBeCloseTo(shift[0], 5);
    }
  });

  test("min-SNR weights come with the batch", async () => {
    expect((await run(task({}))).seen[0].weights).toBeUndefined();
    const { weights, timesteps } = (await run(task({ minSnr: 5 }))).seen[0];
    expect(weights).toHaveLength(4);
    const { alphasCumprod } = new DDPMScheduler();
    timesteps.forEach((t, b) => {
      const snr = alphasCumprod[t] / (1 - alphasCumprod[t]);
      expect(weights![b]).toBeCloseTo(Math.min(snr, 5) / snr, 5);
    });
  });

  test("a share of the samples is what one sampling step starts from; data are told what was drawn", async () => {
    const scheduler = new DDPMScheduler({ rescale_betas_zero_snr: true });
    const plain = (await run(task({ batch: 8 }, { scheduler }))).seen[0];
    const some = (await run(task({ batch: 8, noiseless: 0.5 }, { scheduler }))).seen[0];
    const zero = Array.from({ length: 8 }, (_, b) => scope(() => some.noise.narrow(0, b, 1).square().sum().item()) === 0);
    expect(new Set(zero)).toEqual(new Set([true, false]));
    some.timesteps.forEach((t, b) => expect(t).toBe(zero[b] ? 999 : plain.timesteps[b]));

    const told: (readonly number[])[] = [];
    const all = task({ batch: 8, noiseless: 1 }, { scheduler });
    const { data } = all;
    all.data = (places, timesteps, ...rest) => {
      told.push(timesteps);
      return data(places, timesteps, ...rest);
    };
    const { timesteps, noise } = (await run(all)).seen[0];
    expect(timesteps).toEqual(new Array(8).fill(999));
    expect(noise.floats().every((v) => v === 0)).toBe(true);
    expect(told).toEqual([plain.timesteps]);

    expect(() => denoisingGradients(task({ noiseless: 0.5 }))).toThrow(/noiseless: .*ends in pure noise/);
  });

  test("what dropout leaves out of a sample does not depend on what it is computed beside", async () => {
    // A loss that is of what is left of ones: samples by themselves add up to the whole.
    const loss = (b: BodyBatch) => {
      const left = b.dropout!.apply(zeros([b.latents.size(0), 64]).add(1), p);
      return left.mean().mul(p.value.sum()).add(b.noise.mean().mul(0));
    };
    const whole = await run(task({ dropout: 0.4 }, { loss }));
    const parts = await run(task({ dropout: 0.4, checkpointing: true }, { loss: (b) => segment([], () => loss(b)) }));
    expect(parts.loss).toBeCloseTo(whole.loss, 5);
    expect(whole.loss).not.toBeCloseTo(0.2, 5); // what it is where nothing is left out
    expect((await run(task({}))).seen[0].dropout).toBeUndefined();
  });

  test("a sample that cannot be read is left out where that is allowed", async () => {
    const t = task({ checkpointing: true }, { skipped: new Skipped(true) });
    const { data } = t;
    t.data = async (places, ...rest) => {
      if (places.includes(3) || places.includes(4)) throw new Error(`${places.join()}: gone`);
      return data(places, ...rest);
    };
    using g = new Generator(1);
    seen.length = 0;
    for (const index of [0, 1, 2]) await denoisingGradients(t)(batch(index, g));
    const used = seen.map((b) => b.latents.item());
    expect(used).not.toContain(3);
    expect(used.length).toBeGreaterThanOrEqual(8);
    expect(t.skipped.all).toHaveLength(2);
  });
});

test("a sample's weight is what its error counts", async () => {
  // The loss of the library itself, on a model that answers zero.
  const { denoisingLoss } = await import("@make-your-anchor/diffusion");
  const scheduler = new DDPMScheduler();
  const models = {
    scheduler,
    controlnet: { forward: () => null },
    unet: { forward: (x: Tensor) => x.mul(p.value.sum().mul(0)) },
  } as never;
  scope(() => {
    using g = new Generator(3);
    const b = {
      latents: zeros([2, 1, 2, 2]),
      noise: g.randn([2, 1, 2, 2]),
      timesteps: [10, 900],
      context: zeros([2, 1, 1]),
      condition: zeros([2, 3, 2, 2]),
    };
    const each = [0, 1].map((k) => b.noise.narrow(0, k, 1).square().mean().item());
    expect(denoisingLoss(models, b).item()).toBeCloseTo((each[0] + each[1]) / 2, 5);
    const weighted = denoisingLoss(models, { ...b, weights: [2, 0.5] });
    expect(weighted.item()).toBeCloseTo((2 * each[0] + 0.5 * each[1]) / 2, 5);
    backward(weighted);
  });
});

test("places near the mesh count more, and every sample as much as before", async () => {
  const { denoisingLoss, meshFocus } = await import("@make-your-anchor/diffusion");
  scope(() => {
    // One sample with something drawn in a corner, one with nothing.
    const condition = zeros([2, 3, 64, 64]);
    condition.narrow(0, 0, 1).narrow(1, 1, 1).narrow(2, 0, 3).narrow(3, 0, 3).fill_(0.5);
    const focus = meshFocus(condition, 16, 0.25);
    expect(focus.shape).toEqual([2, 1, 16, 16]);
    const [first, second] = [0, 1].map((k) => focus.narrow(0, k, 1).floats());
    // The place it lies in, and two around.
    const ratio = (y: number, x: number) => first[y * 16 + x] / first[255];
    expect([ratio(0, 0), ratio(2, 2), ratio(3, 0), ratio(0, 3)].map((r) => Math.round(r * 100) / 100)).toEqual([4, 4, 1, 1]);
    expect(first.reduce((a, b) => a + b, 0)).toBeCloseTo(256, 3);
    expect(second.every((v) => Math.abs(v - 1) < 1e-6)).toBe(true);

    using g = new Generator(3);
    const scheduler = new DDPMScheduler();
    const models = { scheduler, controlnet: { forward: () => null }, unet: { forward: (x: Tensor) => x.mul(0) } } as never;
    const b = {
      latents: zeros([2, 1, 16, 16]),
      noise: g.randn([2, 1, 16, 16]),
      timesteps: [10, 900],
      context: zeros([2, 1, 1]),
      condition,
    };
    const expected = b.noise.square().mul(focus).mean().item();
    expect(denoisingLoss(models, { ...b, focus }).item()).toBeCloseTo(expected, 5);
    expect(denoisingLoss(models, { ...b, focus, weights: [1, 1] }).item()).toBeCloseTo(expected, 5);
  });
});

test("the background's share comes with the batch; at 1 nothing does", async () => {
  let focus: (Tensor | undefined)[] = [];
  const loss = (b: BodyBatch) => {
    focus = [...focus, b.focus && scope(() => keep(b.focus!.clone()))];
    return b.noise.mean().mul(p.value.sum());
  };
  await run(task({ background: 1 }, { loss }));
  await run(task({ background: 0.3 }, { loss }));
  expect(focus[0]).toBeUndefined();
  expect(focus[1]!.shape).toEqual([4, 1, 1, 1]);

  // Data that know better are followed.
  const own = task({ background: 0.3 }, { loss });
  await run({
    ...own,
    data: async (...asked) => ({ ...(await own.data(...asked)), focus: scope(() => keep(zeros([4, 1, 1, 1]).add(2))) }),
  });
  expect(Array.from(focus[2]!.floats())).toEqual([2, 2, 2, 2]);
  for (const f of focus) f?.dispose();
});

test("where a head paints counts, and what is beside it", async () => {
  const { paintedFocus } = await import("@make-your-anchor/diffusion");
  scope(() => {
    const mask = zeros([1, 1, 8, 8]).add(1);
    mask.narrow(2, 3, 2).narrow(3, 3, 2).fill_(0);
    const focus = paintedFocus(mask, 0.2).floats();
    const ratio = (y: number, x: number) => Math.round((100 * focus[y * 8 + x]) / focus[0]) / 100;
    expect([ratio(3, 3), ratio(2, 2), ratio(5, 5), ratio(1, 3), ratio(6, 6)]).toEqual([5, 5, 5, 1, 1]);
    expect(focus.reduce((a, b) => a + b, 0)).toBeCloseTo(64, 3);
  });
});
