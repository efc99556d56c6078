/** The full-size preset end to end, on small weights in the published layout: pull's cache, training with checkpoints, rendering, import. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { backward, backwardCheckpointed, Generator, loadSafetensors, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { denoisingLoss, ControlNetModel, DDPMScheduler, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import { animate, Avatar, createAvatar, importWeights, pretrainFull, trainBody, trainHead } from "@make-your-anchor/anchor";
import { filmPresenter } from "@make-your-anchor/anchor/demo";
import { catalogue, type Published } from "@make-your-anchor/anchor/hub";
import { probeVideo, readImage, resizePil, writePng } from "@make-your-anchor/media";
import { settledTensors } from "./live-tensors.ts";

const golden = (name: string) => fileURLToPath(new URL(`./golden/${name}`, import.meta.url));
const home = mkdtempSync(join(tmpdir(), "sd15-"));
const before = process.env.HF_HOME;
afterAll(() => {
  if (before === undefined) delete process.env.HF_HOME;
  else process.env.HF_HOME = before;
  rmSync(home, { recursive: true, force: true });
});

/** A repository as `anchor pull` leaves it. */
function pulled(entry: Published, parts: Record<string, string>): void {
  const commit = "c".repeat(40);
  const repo = join(home, "hf", "hub", `models--${entry.repo.replaceAll("/", "--")}`);
  for (const [part, from] of Object.entries(parts)) cpSync(from, join(repo, "snapshots", commit, part), { recursive: true });
  mkdirSync(join(repo, "refs"), { recursive: true });
  writeFileSync(join(repo, "refs", entry.revision), commit);
}

describe("sd15 on small weights", () => {
  let avatar: Avatar;
  beforeAll(async () => {
    process.env.HF_HOME = join(home, "empty");
    const { clip, motionPath } = await filmPresenter(home, 0.8);
    avatar = await createAvatar(join(home, "full"), { clip, motion: motionPath, preset: "sd15" });
  });

  it("works at 512²", async () => {
    const { width, height } = await readImage(avatar.condition(0));
    expect([avatar.info.resolution, width, height]).toEqual([512, 512, 512]);

    // From here on a quarter of the size: the steps are the same, and the cores are few.
    for (let i = 0; i < avatar.info.frames; i++)
      for (const path of [avatar.frame(i), avatar.condition(i)])
        await writePng(path, resizePil(await readImage(path), 128, 128, "bicubic"));
    avatar.info.resolution = 128;
    avatar.save();
  });

  it("names the command that fetches what is missing", async () => {
    await expect(trainBody(avatar, { steps: 1 })).rejects.toThrow(/Stable Diffusion 1\.5.*is not here: fetch it with "anchor pull sd15"/);
    expect(avatar.trained).toBe(false);
  });

  it("trains from the published weights, resumes, and renders with guidance and the empty text", async () => {
    process.env.HF_HOME = join(home, "hf");
    const tokenizer = join(home, "tokenizer");
    mkdirSync(tokenizer);
    writeFileSync(join(tokenizer, "vocab.json"), '{"<|startoftext|>": 1, "<|endoftext|>": 2}');
    writeFileSync(join(tokenizer, "merges.txt"), "#version: 0.2\n");
    pulled(catalogue.sd15, {
      unet: golden("unet2d/unet"),
      vae: golden("vae/vae"),
      text_encoder: golden("clip_text/text_encoder"),
      scheduler: golden("schedulers/scheduler"),
      tokenizer,
    });
    pulled(catalogue["clip-vit-b32"], { "": golden("clip_vision/image_encoder") });

    const live = await settledTensors();
    const abort = new AbortController();
    const onProgress = (p: { done: number }) => p.done >= 1 && abort.abort();
    await expect(trainBody(avatar, { steps: 3, signal: abort.signal, onProgress })).rejects.toThrow();
    const { steps } = await trainBody(avatar, { steps: 3 });
    expect(steps.body).toBe(3);
    expect(await settledTensors()).toEqual(live);
    expect(readdirSync(avatar.path("body")).sort()).toEqual(["controlnet", "training.json", "unet"]);
    const [trained, base] = [avatar.path("body", "unet"), golden("unet2d/unet")].map((f) =>
      loadSafetensors(join(f, "diffusion_pytorch_model.safetensors")),
    );
    const moved = [...base].filter(([k, t]) => scope(() => trained.get(k)!.sub(t).abs().max().item()) > 0);
    expect(moved.length).toBe(base.size); // every weight has a gradient, checkpoints or not
    for (const t of [...trained.values(), ...base.values()]) t.dispose();

    const { video } = await animate(avatar, { conditions: avatar.path("conditions"), frames: 3, steps: 2, out: join(home, "full.mp4") });
    expect((await probeVideo(video)).width).toBe(128);
    expect(await settledTensors()).toEqual(live);
  });

  it("trains a head from the inpainting weights, resumes, and paints with it", async () => {
    await expect(trainHead(avatar, { steps: 1 })).rejects.toThrow(/is not here: fetch it with "anchor pull sd-inpainting"/);
    pulled(catalogue["sd-inpainting"], { unet: golden("unet2d_inpaint/unet"), scheduler: golden("schedulers/scheduler") });
    const live = await settledTensors();
    const abort = new AbortController();
    const onProgress = (p: { stage: string; done: number }) => p.stage.includes("head model") && p.done >= 1 && abort.abort();
    await expect(trainHead(avatar, { steps: 2, signal: abort.signal, onProgress })).rejects.toThrow();
    const { steps, heads } = await trainHead(avatar, { steps: 2 });
    expect(steps).toEqual({ vae: 0, decoder: 0, head: 2 });
    expect(heads.size).toBe(256);
    expect(readdirSync(avatar.path("head")).sort()).toEqual(["controlnet", "training.json", "unet"]);
    const result = await animate(avatar, { motion: avatar.folder, frames: 2, steps: 1, out: join(home, "faced.mp4") });
    expect(Object.values(result.faces!).reduce((a, b) => a + b, 0)).toBe(2);
    expect(await settledTensors()).toEqual(live);
  });

  it("pre-trains on many people from avatars and the original's lists, resumes, and a person's training starts from it", async () => {
    const list = join(home, "body_train.json");
    const sample = (i: number, person: string) =>
      JSON.stringify({ source: avatar.condition(i), target: avatar.frame(i), reference: avatar.frame(0), person });
    writeFileSync(list, [0, 1, 2].map((i) => sample(i, i === 2 ? "b" : "a")).join("\n"));
    const out = join(home, "stage1");
    const options = { data: [list, avatar.folder], steps: 2, resolution: 64 } as const;
    const live = await settledTensors();
    const abort = new AbortController();
    const onProgress = (p: { done: number }) => p.done >= 1 && abort.abort();
    await expect(pretrainFull(out, { ...options, part: "body", signal: abort.signal, onProgress })).rejects.toThrow();
    await expect(pretrainFull(out, { ...options, part: "body", lr: 1e-4 })).rejects.toThrow(
      /begun with lr 0\.00001, not 0\.0001: go on with the same settings, or start over with --fresh/,
    );
    expect((await pretrainFull(out, { ...options, part: "body" })).steps).toBe(2);
    await expect(pretrainFull(out, { ...options, part: "body" })).rejects.toThrow(/finished/);
    await expect(pretrainFull(out, { data: [list], part: "head", steps: 1 })).rejects.toThrow(/no heads \(samples with a mask\)/);
    expect((await pretrainFull(out, { data: [avatar.folder], part: "head", steps: 1, resolution: 64 })).steps).toBe(1);
    expect(await settledTensors()).toEqual(live);

    const unetOf = (folder: string) => loadSafetensors(join(folder, "unet", "diffusion_pytorch_model.safetensors"));
    const { steps } = await trainBody(avatar, { steps: 1, from: out, lr: 1e-7, fresh: true, validate: 1 });
    expect(steps.body).toBe(1);
    const [tuned, stage1, base] = [unetOf(avatar.path("body")), unetOf(join(out, "body")), unetOf(golden("unet2d"))];
    const apart = (a: Map<string, Tensor>, b: Map<string, Tensor>) =>
      Math.max(...[...a].map(([k, t]) => scope(() => b.get(k)!.sub(t).abs().max().item())));
    expect(apart(tuned, stage1)).toBeLessThan(1e-6); // one small step from it
    expect(apart(tuned, base)).toBeGreaterThan(1e-6);
    for (const m of [tuned, stage1, base]) for (const t of m.values()) t.dispose();
    await expect(trainBody(avatar, { steps: 1, from: "nothing", fresh: true })).rejects.toThrow(
      /sd15 preset starts from published weights/,
    );
    await expect(trainBody(avatar, { steps: 1, from: home, fresh: true })).rejects.toThrow(/no body\/unet and body\/controlnet there/);
  });

  it("takes over a person's released weights, whole or not at all", () => {
    const person = join(home, "person");
    cpSync(golden("unet2d/unet"), join(person, "body", "unet"), { recursive: true });
    expect(() => importWeights(avatar, person)).toThrow(/no controlnet there: expected body\/unet and body\/controlnet/);
    cpSync(golden("train_body/controlnet"), join(person, "body", "controlnet"), { recursive: true });
    rmSync(join(person, "body", "controlnet", "diffusion_pytorch_model.safetensors"));
    cpSync(
      golden("unet2d/unet/diffusion_pytorch_model.safetensors"),
      join(person, "body", "controlnet", "diffusion_pytorch_model.safetensors"),
    );
    expect(() => importWeights(avatar, person)).toThrow(/the weights do not fit the model/);
    rmSync(join(person, "body", "controlnet"), { recursive: true });
    cpSync(golden("controlnet/controlnet"), join(person, "body", "controlnet"), { recursive: true });
    expect(importWeights(avatar, person).parts).toEqual(["body/unet", "body/controlnet"]);
    cpSync(golden("unet2d/unet"), join(person, "head", "unet"), { recursive: true });
    cpSync(golden("controlnet/controlnet"), join(person, "head", "controlnet"), { recursive: true });
    expect(() => importWeights(avatar, person)).toThrow(/head\/unet: a UNet with 4 input channels is no inpainting model/);
    rmSync(join(person, "head", "unet"), { recursive: true });
    cpSync(golden("unet2d_inpaint/unet"), join(person, "head", "unet"), { recursive: true });
    expect(importWeights(avatar, person).parts).toEqual(["body/unet", "body/controlnet", "head/unet", "head/controlnet"]);
    using a = UNet2DConditionModel.fromPretrained(avatar.path("body", "unet"));
    using b = UNet2DConditionModel.fromPretrained(golden("unet2d/unet"));
    for (const [name, p] of a.namedParameters()) expect(p.value.data(), name).toEqual(b.stateDict().get(name)!.data());
    expect(existsSync(avatar.path("import.new"))).toBe(false);
  });
});

it("checkpointed gradients of UNet and ControlNet equal the plain ones", () => {
  using unet = UNet2DConditionModel.fromPretrained(golden("train_body/unet")).requiresGrad_();
  using controlnet = ControlNetModel.fromPretrained(golden("train_body/controlnet")).requiresGrad_();
  const scheduler = new DDPMScheduler();
  using g = new Generator(4);
  const inputs = noGrad(() => ({
    latents: g.randn([2, 4, 16, 8]),
    noise: g.randn([2, 4, 16, 8]),
    context: g.randn([2, 50, unet.config.cross_attention_dim]),
    condition: g.rand([2, 3, 128, 64]),
  }));
  const batch = { ...inputs, timesteps: [10, 700] };
  const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
  const take = (): Map<string, Float32Array> => {
    const out = new Map(named.map(([name, p]) => [name, scope(() => p.value.grad!.floats())]));
    unet.zeroGrad();
    controlnet.zeroGrad();
    return out;
  };
  const plain = scope(() => {
    const loss = denoisingLoss({ unet, controlnet, scheduler }, batch);
    backward(loss);
    return loss.item();
  });
  const wanted = take();
  expect(backwardCheckpointed(() => denoisingLoss({ unet, controlnet, scheduler }, batch))).toBeCloseTo(plain, 6);
  for (const [name, got] of take()) {
    const want = wanted.get(name)!;
    const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    got.forEach((v, i) => expect(Math.abs(v - want[i]), name).toBeLessThanOrEqual(1e-6 + 1e-4 * most));
  }
  for (const t of Object.values(inputs) as Tensor[]) t.dispose();
});
