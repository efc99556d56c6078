import { afterAll, beforeAll, expect, test } from "vitest";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AutoencoderKL, CLIPVisionModel, ControlNetModel, UNet3DConditionModel } from "@make-your-anchor/diffusion";
import { noGrad, scope } from "@make-your-anchor/torch";
import type { Progress } from "../progress.ts";
import type { Recipe } from "../train/recipe.ts";
import { pretrain } from "./pretrain.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "base-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const losses = (run: string) =>
  readFileSync(join(run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((l) => (JSON.parse(l) as { loss: number }).loss);

test.each(["denoiser", "decoder"] as const)("the %s asks for the VAE it stands upon", async (part) => {
  await expect(pretrain(join(folder, "empty"), { part, steps: 1 })).rejects.toThrow(/vae: not there yet: run "anchor pretrain vae"/);
});

test.each([
  { options: { batch: 0 }, says: /batch/ },
  { options: { lr: 2 }, says: /lr/ },
])("$options is refused before anything is drawn", async ({ options, says }) => {
  await expect(pretrain(join(folder, "refused"), { part: "denoiser", from: "base", steps: 1, ...options })).rejects.toThrow(says);
  expect(existsSync(join(folder, "refused"))).toBe(false);
});

test("the first people are counted while they are drawn, and need not all be waited for", { timeout: 60_000 }, async () => {
  const stop = new AbortController();
  const seen: string[] = [];
  const onProgress = ({ stage, done, total }: Progress) => {
    seen.push(`${stage}: ${done}/${total}`);
    if (done === 2) stop.abort();
  };
  const work = pretrain(join(folder, "stopped"), { part: "vae", steps: 1, people: 1000, signal: stop.signal, onProgress });
  await expect(work).rejects.toThrow(/abort/i);
  expect(seen).toEqual([1, 2].map((n) => `drawing people to begin with: ${n}/1000`));
});

test(
  "VAE and denoiser are pre-trained on made-up people, the loss falls, and an interrupted run ends with the same bytes",
  { timeout: 300_000 },
  async () => {
    const whole = join(folder, "whole");
    const vae = await pretrain(whole, { part: "vae", steps: 40, people: 4 });
    expect(vae.steps).toBe(40);
    const curve = losses(join(whole, "runs", "vae"));
    expect(curve.at(-1)!).toBeLessThan(0.95 * curve[0]);

    const broken = join(folder, "broken");
    const stop = new AbortController();
    await expect(
      pretrain(broken, { part: "vae", steps: 40, people: 4, signal: stop.signal, onProgress: (p) => void (p.done === 8 && stop.abort()) }),
    ).rejects.toThrow();
    await pretrain(broken, { part: "vae", steps: 40, people: 4 });
    const weights = (base: string) => readFileSync(join(base, "vae", "diffusion_pytorch_model.safetensors"));
    expect(weights(broken).equals(weights(whole))).toBe(true);
    expect(losses(join(broken, "runs", "vae"))).toEqual(curve);
    await expect(pretrain(broken, { part: "vae", steps: 40, people: 4 })).rejects.toThrow(
      /finished: train it again from the start with --fresh/,
    );

    const denoiser = await pretrain(whole, { part: "denoiser", steps: 3, people: 2 });
    expect(denoiser.steps).toBe(3);
    using trained = AutoencoderKL.fromPretrained(join(whole, "vae"));
    expect(trained.config.scaling_factor).not.toBe(1);
    for (const Model of [UNet3DConditionModel, ControlNetModel] as const) {
      using m = Model.fromPretrained(join(whole, "denoiser", Model === ControlNetModel ? "controlnet" : "unet"));
      expect(m.parameterCount).toBeGreaterThan(1e6);
    }
    // It goes on from there, with the same VAE and other people.
    const further = join(folder, "further");
    await pretrain(further, { part: "denoiser", steps: 1, people: 2, from: whole, firstPerson: 4, batch: 3, lr: 1e-4 });
    const { recipe } = JSON.parse(readFileSync(join(further, "runs", "denoiser", "config.json"), "utf8")) as { recipe: Recipe };
    expect(recipe).toMatchObject({ batch: 3, lr: 1e-4, dropAppearance: 0.1 });
    expect(weights(further).equals(weights(whole))).toBe(true);
    await pretrain(broken, { part: "vae", steps: 1, people: 4, fresh: true });
    await expect(pretrain(broken, { part: "denoiser", steps: 1, people: 2, from: whole })).rejects.toThrow(
      /vae: expected the VAE of .*, got another/,
    );
    // The decoder by itself: a whole base, whose latents are the same.
    const sharper = join(folder, "sharper");
    const decoder = await pretrain(sharper, { part: "decoder", steps: 3, people: 2, from: whole, firstPerson: 4 });
    expect(decoder.steps).toBe(3);
    using tuned = AutoencoderKL.fromPretrained(join(sharper, "vae"));
    expect(tuned.config).toEqual(trained.config);
    const before = trained.stateDict();
    const changed = [...tuned.stateDict()].filter(
      ([name, t]) => !scope(() => noGrad(() => t.sub(before.get(name)!).abs().max().item() === 0)),
    );
    expect(changed.length).toBeGreaterThan(10);
    expect(changed.every(([name]) => /^(decoder|post_quant_conv)\./.test(name))).toBe(true);
    const once = weights(sharper);
    await pretrain(sharper, { part: "decoder", steps: 3, people: 2, from: whole, firstPerson: 4, fresh: true });
    expect(weights(sharper).equals(once)).toBe(true);
    const unet = (base: string) => readFileSync(join(base, "denoiser", "unet", "diffusion_pytorch_model.safetensors"));
    expect(unet(sharper).equals(unet(whole))).toBe(true);
    using encoder = CLIPVisionModel.fromPretrained(join(whole, "denoiser", "image_encoder"));
    expect(encoder.config.hidden_size).toBe(96);
  },
);
