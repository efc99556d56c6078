/** The whole system through its command and its library: a tiny avatar from filming to video. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { animate, Avatar } from "@make-your-anchor/anchor";
import { probeVideo, readImage } from "@make-your-anchor/media";
import { cudaDevices } from "@make-your-anchor/torch";
import { settledTensors } from "./live-tensors.ts";
import { ffmpeg, studio } from "./studio.ts";

const { home, demo, anchor } = studio();

describe("demo", () => {
  it("leaves a clip, an avatar, a video with sound and a contact sheet", async () => {
    const video = await probeVideo(join(demo, "video.mp4"));
    expect([video.width, video.height, video.fps, video.hasAudio]).toEqual([128, 128, 25, true]);
    const sheet = await readImage(join(demo, "contact-sheet.png"));
    expect(sheet.width).toBeGreaterThan(700);
    const avatar = Avatar.open(join(demo, "presenter"));
    expect(avatar.info.frames).toBe(40);
    expect(avatar.info.heldOutFrom).toBe(32);
    expect(readdirSync(avatar.path("clip", "frames"))).toHaveLength(40);
    expect(existsSync(avatar.path("clip", "audio.wav"))).toBe(true);
    for (const part of ["unet", "controlnet", "vae"])
      expect(JSON.parse(readFileSync(avatar.path("body", part, "config.json"), "utf8"))._class_name).toBeTruthy();
  });
  it("a second run keeps everything and takes no time to train", () => {
    const before = readFileSync(join(demo, "presenter", "body", "unet", "diffusion_pytorch_model.safetensors"));
    const { code, err } = anchor(["demo", "--clip-seconds", "1.6", "--steps", "6", "--seconds", "0.8", "--no-face"]);
    expect(code, err).toBe(0);
    expect(err).not.toMatch(/training/);
    expect(readFileSync(join(demo, "presenter", "body", "unet", "diffusion_pytorch_model.safetensors"))).toEqual(before);
  });
  it("learns the head too where that is not left out, and paints the face with it", () => {
    cpSync(demo, join(home, "faced"), { recursive: true });
    const { code, out, err } = anchor(["demo", "--out", join(home, "faced"), "--steps", "4", "--seconds", "0.8", "--json"]);
    expect(code, err).toBe(0);
    expect(err).not.toMatch(/training the body/);
    expect(err).toMatch(/training the head model: \d+\/4/);
    expect(existsSync(join(home, "faced", "presenter", "head", "unet", "config.json"))).toBe(true);
    expect(readFileSync(JSON.parse(out).video)).not.toEqual(readFileSync(join(demo, "video.mp4")));
  });
});

describe("drafts", () => {
  it("lie beside the weights that paint from them; where one is lost, animate says what to do", () => {
    const folder = join(home, "undrafted");
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    const draft = join(folder, "body", "draft.safetensors");
    expect(existsSync(draft)).toBe(true);
    expect(JSON.parse(readFileSync(join(folder, "body", "unet", "config.json"), "utf8")).in_channels).toBe(16);
    rmSync(draft);
    const { code, err } = anchor(["animate", folder, "--motion", folder, "--frames", "2"]);
    expect(code).toBe(2);
    expect(err).toMatch(/draft\.safetensors: missing.*train the body again/);
  });
});

describe("device and precision", () => {
  it.skipIf(cudaDevices() > 0)("a GPU that is not there is misuse, and says how to get one (skipped where there is a GPU)", () => {
    const { code, err } = anchor(["animate", "demo/presenter", "--motion", "demo/presenter", "--device", "cuda"]);
    expect(code).toBe(2);
    expect(err).toMatch(/device cuda: this engine sees no CUDA device.*LIBTORCH_DOWNLOAD/);
    expect(anchor(["train", "demo/presenter", "--precision", "float16"]).err).toMatch(/float16 needs a GPU/);
    expect(anchor(["train", "demo/presenter", "--steps", "2"], { ANCHOR_DEVICE: "gpu0" }).err).toMatch(
      /expected cpu, cuda, cuda:N or auto/,
    );
  });
  it("bfloat16 renders nearly the same frames, and says so in the report", async () => {
    const render = async (precision: "float32" | "bfloat16") => {
      const { code, out, err } = anchor(
        ["animate", "demo/presenter", "--motion", "demo/presenter", "--frames", "3", "--steps", "2", "--device", "cpu"].concat(
          "--precision",
          precision,
          "--json",
        ),
      );
      expect(code, err).toBe(0);
      const result = JSON.parse(out);
      expect(result).toMatchObject({ device: "cpu", precision, peakGpuMiB: null, reused: 0 });
      return (await readImage(join(result.folder, "frames", "000001.png"))).data;
    };
    const [a, b] = [await render("float32"), await render("bfloat16")];
    const difference = a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length;
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(3); // grey levels
  });
  it("trains in bfloat16 with float32 weights", async () => {
    const folder = join(home, "halved");
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    const { code, out, err } = anchor(["train", folder, "--steps", "3", "--precision", "bfloat16", "--fresh", "--json"]);
    expect(code, err).toBe(0);
    const result = JSON.parse(out);
    expect(result).toMatchObject({ precision: "bfloat16", steps: { body: 3 } });
    // The state that was kept is the best of those logged.
    const logged = readFileSync(join(result.run, "metrics.jsonl"), "utf8").trim().split("\n");
    const trials = logged.map((line) => JSON.parse(line)).filter((m) => m.validation_psnr !== undefined);
    expect(trials).toHaveLength(3);
    const best = trials.reduce((a, b) => (b.validation_psnr > a.validation_psnr ? b : a));
    expect(result.best).toMatchObject({ step: best.step, psnr: best.validation_psnr });
  });
});

describe("evaluate", () => {
  it("gives the keys others script against", () => {
    const { code, out, err } = anchor(["evaluate", "./demo/presenter", "--steps", "2", "--json"]);
    expect(code, err).toBe(0);
    const e = JSON.parse(out);
    for (const at of [e.generated, e.baselines.meanFrame, e.baselines.nearestFrame])
      for (const region of ["full", "moving"])
        for (const key of ["psnr", "ssim", "sharpness"]) expect(at[region][key]).toEqual(expect.any(Number));
    for (const key of ["psnr", "ssim", "sharpness"]) expect(e.vae.full[key]).toEqual(expect.any(Number));
    for (const group of ["body", "hands", "face"]) expect(e.fit[group]).toHaveProperty("median");
    expect(e.frames).toEqual({ train: 32, heldOut: 6, validated: 2 });
    expect(existsSync(e.contactSheet)).toBe(true);
  });
});

describe("head", () => {
  const folder = join(home, "headed");
  const lines = (path: string) => readFileSync(path, "utf8").trim().split("\n");
  beforeAll(() => {
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    rmSync(join(folder, "videos"), { recursive: true, force: true });
    const { code, out, err } = anchor(["train", folder, "head", "--steps", "6", "--json"]);
    expect(code, err).toBe(0);
    const result = JSON.parse(out);
    expect(result.steps).toEqual({ vae: 2, decoder: 2, head: 6 });
    expect(result.heads.states.found + (result.heads.states.covered ?? 0)).toBe(40);
    expect(err).toMatch(/training the head model: \d+\/6/);
  }, 300_000);

  it("leaves aligned crops, conditions, masks and transforms, and a model that opens elsewhere", async () => {
    const report = JSON.parse(readFileSync(join(folder, "heads", "heads.json"), "utf8"));
    for (const kind of ["aligned", "conditions", "masks"]) {
      const files = readdirSync(join(folder, "heads", kind)).sort();
      expect(files).toHaveLength(report.frames.length);
      expect((await readImage(join(folder, "heads", kind, files[0]))).width).toBe(64);
    }
    expect(existsSync(join(folder, "heads", "transforms.npz"))).toBe(true);
    const config = JSON.parse(readFileSync(join(folder, "head", "unet", "config.json"), "utf8"));
    expect(config).toMatchObject({ _class_name: "UNet2DConditionModel", in_channels: 17 });
    expect(existsSync(join(folder, "head", "draft.safetensors"))).toBe(true);
    expect(JSON.parse(readFileSync(join(folder, "head", "training.json"), "utf8"))).toMatchObject({ paints: "crop" });
    expect(anchor(["train", folder, "head", "--steps", "6"]).code).toBe(0); // the crops are kept: only the training runs anew
  });

  it("animate paints faces by default, reports every frame, and goes on behind an interruption to the same bytes", async () => {
    const avatar = Avatar.open(folder);
    const options = { motion: avatar.folder, frames: 24, steps: 2, device: "cpu", faceStrength: 1 };
    const before = await settledTensors();
    const whole = await animate(avatar, { ...options, out: join(home, "whole-head.mp4") });
    const sum = Object.values(whole.faces!).reduce((a, b) => a + b, 0);
    expect(sum).toBe(24);
    expect(lines(join(whole.folder, "faces.jsonl"))).toHaveLength(24);
    const frame = (folder: string, i: number) => readFileSync(join(folder, "frames", `${String(i + 1).padStart(6, "0")}.png`));
    const stopped = new AbortController();
    const out = join(home, "broken-head.mp4");
    let seen = 0;
    const broken = animate(avatar, {
      ...options,
      out,
      signal: stopped.signal,
      onProgress: (p) => {
        if (p.stage === "rendering" && ++seen === 7) stopped.abort();
      },
    });
    await expect(broken).rejects.toThrow();
    const rest = await animate(avatar, { ...options, out });
    expect(rest.faces).toEqual(whole.faces);
    for (let i = 0; i < 24; i++) expect(frame(rest.folder, i), `frame ${i}`).toEqual(frame(whole.folder, i));
    expect(existsSync(join(rest.folder, "body"))).toBe(false);
    expect(await settledTensors()).toEqual(before);

    const bare = await animate(avatar, { ...options, face: false, out: join(home, "bare.mp4") });
    expect(bare.faces).toBeNull();
    const [a, b] = [
      await readImage(join(bare.folder, "frames", "000003.png")),
      await readImage(join(whole.folder, "frames", "000003.png")),
    ];
    const changed = a.data.reduce((n, v, i) => n + (v === b.data[i] ? 0 : 1), 0) / a.data.length;
    expect(changed).toBeGreaterThan(0.005);
    expect(changed).toBeLessThan(0.4); // the face alone
  });

  it("evaluate measures inside the face's box with and without it", () => {
    const { code, out, err } = anchor(["evaluate", folder, "--steps", "2", "--face-strength", "0.5", "--json"]);
    expect(code, err).toBe(0);
    const e = JSON.parse(out);
    expect(e.faceStrength).toBe(0.5);
    for (const at of [e.generated, e.bodyOnly])
      for (const key of ["psnr", "ssim", "sharpness", "flicker"]) expect(at.face[key]).toEqual(expect.any(Number));
    expect(e.generated.face).toHaveProperty("identity");
    expect(Object.values(e.faces as Record<string, number>).reduce((a, b) => a + b, 0)).toBe(8);
    expect(e.bodyOnly.full.psnr).not.toBe(e.generated.full.psnr);
  });

  it("shows as much of the painted face as is best on held-out frames, and says so; none at all is said too", () => {
    const shown = (...more: string[]) => {
      const { code, out, err } = anchor(["animate", folder, "--motion", folder, "--frames", "2", "--steps", "1", "--json", ...more]);
      expect(code, err).toBe(0);
      return JSON.parse(out) as { faceStrength: number; faces: object | null; notes: string[] };
    };
    const first = shown();
    const kept = JSON.parse(readFileSync(join(folder, "head", "strength.json"), "utf8"));
    expect(kept).toMatchObject({ strength: first.faceStrength, frames: 2 });
    const { body, painted, shown: best } = kept.psnr;
    expect(best).toBeGreaterThanOrEqual(Math.max(body, painted) - (first.faceStrength === 0 ? 0.5 : 0.01)); // a little is not worth painting
    expect(first.faces === null).toBe(first.faceStrength === 0);
    const odd = anchor(["animate", folder, "--motion", folder, "--face-strength", "2"]);
    expect(odd.code).toBe(2);
    expect(odd.err).toMatch(/face strength: expected a number from 0 to 1, got 2/);

    // Known again for the same weights: what stands there is believed.
    writeFileSync(join(folder, "head", "strength.json"), JSON.stringify({ ...kept, strength: 0 }));
    const none = shown();
    expect(none).toMatchObject({ faceStrength: 0, faces: null });
    expect(none.notes.join()).toMatch(/on 2 held-out frames the painted face was no nearer to the truth/);
    writeFileSync(join(folder, "head", "strength.json"), JSON.stringify({ ...kept, strength: 0, madeFrom: "other weights" }));
    expect(shown().faceStrength).toBe(first.faceStrength);
  });

  it("a head that was trained to paint the face in its surroundings goes on doing so", async () => {
    const old = join(home, "old-head");
    cpSync(folder, old, { recursive: true });
    rmSync(join(old, "videos"), { recursive: true, force: true });
    const avatar = Avatar.open(old);
    const painted = async (out: string) => {
      const { folder: at } = await animate(avatar, { motion: old, frames: 2, device: "cpu", faceStrength: 1, out: join(home, out) });
      return readFileSync(join(at, "frames", "000001.png"));
    };
    const whole = await painted("whole-crop.mp4");
    const path = join(old, "head", "training.json");
    const { paints, ...rest } = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify(rest));
    expect(paints).toBe("crop");
    expect(await painted("surrounded.mp4")).not.toEqual(whole);
  });

  it("ready conditions go through the detector, and a frame without a face is passed through", () => {
    const conditions = join(home, "faceless");
    mkdirSync(conditions);
    for (let i = 1; i <= 4; i++) ffmpeg("-f", "lavfi", "-i", "color=black:size=128x128", "-frames:v", "1", join(conditions, `${i}.png`));
    const { code, out, err } = anchor(["animate", folder, "--conditions", conditions, "--steps", "1", "--face-strength", "1", "--json"]);
    expect(code, err).toBe(0);
    const { faces } = JSON.parse(out);
    expect(Object.values(faces as Record<string, number>).reduce((a, b) => a + b, 0)).toBe(4);
    expect(faces.missing).toBeGreaterThan(0);
    const odd = anchor(["animate", folder, "--motion", folder, "--face-detector", "scrfd.onnx"]);
    expect(odd.code).toBe(2);
    expect(odd.err).toMatch(/a motion's face is found by its mesh/);
  });
});

describe("doctor", () => {
  it("finds everything the default path needs", () => {
    const { code, out, err } = anchor(["doctor", "--json"]);
    expect(code, err).toBe(0);
    const d = JSON.parse(out);
    expect(d.ok).toBe(true);
    expect(d.checks.map((c: { what: string }) => c.what)).toContain("landmark detector");
  });
});
