import { afterEach, beforeEach, expect, test } from "vitest";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { full, Generator, liveTensors, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { AutoencoderKL } from "@make-your-anchor/diffusion";
import { PictureSet } from "../dataset.ts";
import { presets, type VaeSettings } from "../presets.ts";
import { Processes } from "./processes.ts";
import { referenceRecipe } from "./recipe.ts";
import { TrainingRun } from "./run.ts";
import { trainVae, type SampledLatents } from "./vae.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "vae-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const size = 16;
const settings = presets.mini.training.vae!;
/** Vertical stripes in one half, noise of a seed in the other. */
const pictures = new PictureSet(
  size,
  [1, 2, 3].map((seed) =>
    Uint8Array.from({ length: 3 * size * size }, (_, i) => (i % size < 8 ? 255 * ((i >> 1) & 1) : (i * 7919 * seed) % 256)),
  ),
);

async function tune(sampled: SampledLatents | undefined, finish: Partial<VaeSettings["finish"]>, steps = 3, from = "base") {
  const run = TrainingRun.at(mkdtempSync(join(folder, "run-")), {
    target: "body",
    preset: "mini",
    plan: { vae: [], body: [], decoder: [{ step: 0, total: steps }] },
    minutes: null,
    from,
    recipe: referenceRecipe,
    precision: "float32",
    rank: null,
    seed: 3,
    finished: false,
  });
  using vae = new AutoencoderKL({
    block_out_channels: [8, 8],
    layers_per_block: 1,
    norm_num_groups: 4,
    latent_channels: 4,
    scaling_factor: 2,
  });
  using g = new Generator(1);
  vae.initialize(g);
  const state = () => new Map([...vae.stateDict()].map(([name, t]) => [name, scope(() => Array.from(t.floats()))]));
  const before = state();
  const losses: number[] = [];
  await trainVae(
    vae,
    pictures,
    { ...settings, batch: 2, finish: { ...settings.finish, ...finish } },
    {
      run,
      plan: run.config.plan.decoder!,
      seconds: 60,
      decoderOnly: true,
      sampled,
      processes: new Processes(),
      onPlanned: () => {},
      onProgress: (p) => losses.push(Number(/loss (\S+)/.exec(p.note!)![1])),
    },
  );
  const after = state();
  const rows = readFileSync(join(run.folder, "metrics.jsonl"), "utf8").trim().split("\n");
  return {
    losses,
    rates: rows.map((row) => (JSON.parse(row) as { lr: number }).lr),
    changed: [...before].filter(([name, values]) => values.some((v, i) => v !== after.get(name)![i])).map(([name]) => name),
  };
}
const latents = (value: number): Tensor => noGrad(() => full([2, 4, 8, 8], value));

test("at the end the decoder alone learns, from encoded and sampled latents by the share asked for", async () => {
  const live = liveTensors();
  {
    using good = latents(0.5);
    using bad = latents(Number.NaN);
    const places = [0, 2];
    const sampledAlone = await tune({ places, encoded: bad, ways: [good, good] }, { sampled: 1 });
    expect(sampledAlone.losses.every(Number.isFinite)).toBe(true);
    expect(sampledAlone.changed.length).toBeGreaterThan(10);
    expect(sampledAlone.changed.every((name) => /^(decoder|post_quant_conv)\./.test(name))).toBe(true);
    const encodedAlone = await tune({ places, encoded: good, ways: [bad] }, { sampled: 0 });
    expect(encodedAlone.losses.every(Number.isFinite)).toBe(true);
    await expect(tune({ places, encoded: good, ways: [bad] }, { sampled: 1 })).rejects.toThrow(
      "finishing the VAE's decoder: the loss became NaN",
    );
  }
  expect(liveTensors()).toBe(live);
});

test("what it learns is to draw the frames that were sampled", async () => {
  using flat = latents(0.5);
  const { losses } = await tune({ places: [0, 2], encoded: flat, ways: [flat] }, {}, 40);
  expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]);
});

test("a decoder from a base learns at a rate of its own", async () => {
  using flat = latents(0.5);
  const sampled = { places: [0], encoded: flat, ways: [flat] };
  const tuned = await tune(sampled, {});
  const fresh = await tune(sampled, {}, 3, "nothing");
  expect(tuned.rates.length).toBeGreaterThan(0);
  const ratio = settings.tunedDecoderLr / settings.decoderLr;
  expect(ratio).not.toBe(1);
  tuned.rates.forEach((rate, i) => expect(rate / fresh.rates[i]).toBeCloseTo(ratio));
});
