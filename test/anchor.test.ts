/** The whole system through its command and its library: a tiny avatar from filming to video, resuming, and bad input. */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { animate, Avatar, createAvatar, trainBody } from "@make-your-anchor/anchor";
import { npyBytes } from "@make-your-anchor/body";
import { probeVideo, readImage } from "@make-your-anchor/media";
import { cudaDevices, loadSafetensors, scope } from "@make-your-anchor/torch";
import { settledTensors } from "./live-tensors.ts";

const main = fileURLToPath(new URL("../packages/cli/src/main.ts", import.meta.url));
const home = mkdtempSync(join(tmpdir(), "anchor-"));
const demo = join(home, "demo");
afterAll(() => rmSync(home, { recursive: true, force: true }));

function anchor(args: string[], env: Record<string, string> = {}) {
  const run = spawnSync(process.execPath, [main, ...args], {
    encoding: "utf8",
    env: { ...process.env, ANCHOR_CALLER_DIR: home, NODE_OPTIONS: "", VITEST: "", ...env },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}
const ffmpeg = (...args: string[]) => {
  const run = spawnSync("ffmpeg", ["-v", "error", "-y", ...args], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
};

beforeAll(() => {
  const { code, out, err } = anchor(["demo", "--clip-seconds", "1.6", "--steps", "6", "--seconds", "0.8", "--no-face", "--json"]);
  expect(code, err).toBe(0);
  expect(JSON.parse(out).video).toBe(join(demo, "video.mp4"));
  expect(err).toMatch(/training the body model: \d+\/6/);
}, 600_000);

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
    const { code, out, err } = anchor(["demo", "--out", "faced", "--steps", "4", "--seconds", "0.8", "--json"]);
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
    expect(JSON.parse(out)).toMatchObject({ precision: "bfloat16", steps: { body: 3 } });
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
    expect(anchor(["train", folder, "head", "--steps", "6"]).code).toBe(0); // the crops are kept: only the training runs anew
  });

  it("animate paints faces by default, reports every frame, and goes on behind an interruption to the same bytes", async () => {
    const avatar = Avatar.open(folder);
    const options = { motion: avatar.folder, frames: 24, steps: 2, device: "cpu" };
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
    const { code, out, err } = anchor(["evaluate", folder, "--steps", "2", "--json"]);
    expect(code, err).toBe(0);
    const e = JSON.parse(out);
    for (const at of [e.generated, e.bodyOnly])
      for (const key of ["psnr", "ssim", "sharpness", "flicker"]) expect(at.face[key]).toEqual(expect.any(Number));
    expect(e.generated.face).toHaveProperty("identity");
    expect(Object.values(e.faces as Record<string, number>).reduce((a, b) => a + b, 0)).toBe(8);
    expect(e.bodyOnly.full.psnr).not.toBe(e.generated.full.psnr);
  });

  it("ready conditions go through the detector, and a frame without a face is passed through", () => {
    const conditions = join(home, "faceless");
    mkdirSync(conditions);
    for (let i = 1; i <= 4; i++) ffmpeg("-f", "lavfi", "-i", "color=black:size=128x128", "-frames:v", "1", join(conditions, `${i}.png`));
    const { code, out, err } = anchor(["animate", folder, "--conditions", conditions, "--steps", "1", "--json"]);
    expect(code, err).toBe(0);
    const { faces } = JSON.parse(out);
    expect(Object.values(faces as Record<string, number>).reduce((a, b) => a + b, 0)).toBe(4);
    expect(faces.missing).toBeGreaterThan(0);
    const odd = anchor(["animate", folder, "--motion", folder, "--face-detector", "scrfd.onnx"]);
    expect(odd.code).toBe(2);
    expect(odd.err).toMatch(/a motion's face is found by its mesh/);
  });
});

describe("resuming", () => {
  const copy = (name: string) => {
    const folder = join(home, name);
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    rmSync(join(folder, "runs"), { recursive: true, force: true });
    return Avatar.open(folder);
  };
  const curve = (avatar: Avatar) => readFileSync(avatar.path("runs", readdirSync(avatar.path("runs"))[0], "metrics.jsonl"), "utf8");
  const weights = (avatar: Avatar, part: string) => readFileSync(avatar.path("body", part, "diffusion_pytorch_model.safetensors"));

  it.each([
    ["nothing", "training the VAE"],
    ["base", "training the VAE's decoder"],
  ])("an interrupted training from %s ends with the very curve and weights of an uninterrupted one", async (from, ofVae) => {
    const [whole, broken] = [copy(`whole-${from}`), copy(`broken-${from}`)];
    await trainBody(whole, { steps: 9, from });
    for (const [stage, at] of [
      [ofVae, 2],
      ["training the body model", 4],
      ["finishing the VAE's decoder", 2],
    ] as const) {
      const abort = new AbortController();
      const onProgress = (p: { stage: string; done: number }) => {
        if (p.stage === stage && p.done >= at) abort.abort();
      };
      await expect(trainBody(broken, { steps: 9, from, signal: abort.signal, onProgress })).rejects.toThrow();
    }
    const other = from === "base" ? "nothing" : "base";
    await expect(trainBody(broken, { steps: 9, from: other })).rejects.toThrow(`begun from ${from}, not ${other}`);
    await trainBody(broken, { steps: 9, from });
    expect(curve(broken)).toBe(curve(whole));
    for (const part of ["unet", "controlnet", "vae"]) expect(weights(broken, part).equals(weights(whole, part)), part).toBe(true);
    expect(readdirSync(broken.path("runs"))).toHaveLength(1);
  });

  it("an interrupted rendering goes on behind its last frame, to the same bytes, and leaves no tensors", async () => {
    const avatar = Avatar.open(join(demo, "presenter"));
    const options = { motion: join(demo, "new-speech.npz"), steps: 3, windowSize: 4, windowOverlap: 1 };
    const before = await settledTensors();
    const whole = await animate(avatar, { ...options, out: join(home, "whole.mp4") });
    expect(await settledTensors()).toEqual(before);
    const abort = new AbortController();
    const folder = avatar.path("videos", "broken", "frames");
    const onProgress = () => {
      if (existsSync(folder) && readdirSync(folder).length >= 7) abort.abort();
    };
    await expect(animate(avatar, { ...options, out: join(home, "broken.mp4"), signal: abort.signal, onProgress })).rejects.toThrow();
    const resumed = await animate(avatar, { ...options, out: join(home, "broken.mp4") });
    expect(resumed.reused).toBeGreaterThanOrEqual(7);
    expect(resumed.reused).toBeLessThan(whole.frames);
    for (const frame of readdirSync(folder))
      expect(readFileSync(join(folder, frame)).equals(readFileSync(avatar.path("videos", "whole", "frames", frame))), frame).toBe(true);
    expect(existsSync(join(home, "broken.mp4"))).toBe(true);
    expect(await settledTensors()).toEqual(before);
  });

  it("an interrupted creation goes on behind what it has found", async () => {
    const folder = join(home, "filmed");
    const clip = join(demo, "presenter.mp4");
    /** Runs until `stage` has come to `at`; the stages seen. */
    const create = async (stop?: { stage: string; at: number }): Promise<string[]> => {
      const seen = new Set<string>();
      const abort = new AbortController();
      const onProgress = (p: { stage: string; done: number }) => {
        seen.add(p.stage);
        if (p.stage === stop?.stage && p.done >= stop.at) abort.abort();
      };
      const run = createAvatar(folder, { clip, signal: abort.signal, onProgress });
      if (stop) await expect(run).rejects.toThrow();
      else await run;
      return [...seen];
    };
    expect(await create({ stage: "fitting the body", at: 3 })).toContain("finding landmarks");
    expect(Avatar.exists(folder)).toBe(false);
    expect(await create({ stage: "drawing conditions", at: 5 })).toEqual(["fitting the body", "drawing conditions"]);
    expect(await create()).toEqual(["drawing conditions"]);
    expect(readdirSync(Avatar.open(folder).path("conditions"))).toHaveLength(40);
    expect(existsSync(`${folder}.creating`)).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(["avatar.json", "clip", "conditions", "motion.npz"]);
  });

  it("Ctrl-C stops after the step, says so, and the same command goes on", async () => {
    copy("stopped");
    const args = [main, "train", "./stopped", "body", "--steps", "6"];
    const child = spawn(process.execPath, args, { env: { ...process.env, ANCHOR_CALLER_DIR: home, NODE_OPTIONS: "", VITEST: "" } });
    let err = "";
    child.stderr.on("data", (text) => {
      if (!/training/.test(err) && /training the VAE/.test(err + text)) child.kill("SIGINT");
      err += text;
    });
    const code = await new Promise((done) => void child.on("close", done));
    expect(err).toMatch(/stopping after this step; press Ctrl-C again to stop at once/);
    expect(err).toMatch(/interrupted; finished work is kept: type the same command to go on/);
    expect(code).toBe(130);
    const again = anchor(args.slice(1));
    expect(again.code, again.err).toBe(0);
    expect(again.err).toMatch(/training the body model: 6\/6/);
    expect(readdirSync(join(home, "stopped", "runs"))).toHaveLength(1);
  });

  it("two processes come to one process's curve", () => {
    const curves = [1, 2].map((count) => {
      copy(`processes-${count}`);
      const { code, out, err } = anchor(
        ["train", `./processes-${count}`, "body", "--steps", "9", "--validate", "0", "--nproc", String(count), "--json"],
        { OMP_NUM_THREADS: String(3 - count) },
      );
      expect(code, err).toBe(0);
      expect(JSON.parse(out).steps).toEqual({ vae: 3, decoder: 3, body: 9 });
      return curve(Avatar.open(join(home, `processes-${count}`)))
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { phase: string; step: number; loss: number });
    });
    expect(curves[1].map((e) => [e.phase, e.step])).toEqual(curves[0].map((e) => [e.phase, e.step]));
    curves[1].forEach((e, i) => expect(Math.abs(e.loss / curves[0][i].loss - 1), `${e.phase} ${e.step}`).toBeLessThan(1e-3));
    const { code, err } = anchor(["train", "./processes-1", "body", "--steps", "2", "--batch", "1", "--nproc", "2"]);
    expect(code).toBe(2);
    expect(err).toMatch(/a batch of 1 is too small for 2 processes: raise --batch or use fewer/);
  });

  it("a low-rank adapter stands for the person beside its base", async () => {
    const avatar = copy("adapted");
    const size = (folder: string): number =>
      readdirSync(folder, { withFileTypes: true, recursive: true })
        .filter((e) => e.isFile())
        .reduce((n, e) => n + readFileSync(join(e.parentPath, e.name)).length, 0);
    const whole = size(avatar.path("body"));
    const live = await settledTensors();
    const stop = new AbortController();
    const onProgress = (p: { stage: string; done: number }) => p.stage.includes("body model") && p.done >= 2 && stop.abort();
    const options = { steps: 4, adapter: "lora", rank: 4, validate: 1 } as const;
    await expect(trainBody(avatar, { ...options, signal: stop.signal, onProgress })).rejects.toThrow();
    await expect(trainBody(avatar, { ...options, rank: 8 })).rejects.toThrow(/begun with an adapter of rank 4: go on/);
    await trainBody(avatar, options);
    expect(await settledTensors()).toEqual(live);
    expect(readdirSync(avatar.path("body")).sort()).toEqual(["pytorch_lora_weights.safetensors", "training.json", "vae"]);
    expect(size(avatar.path("body"))).toBeLessThan(whole / 4);
    const adapter = loadSafetensors(avatar.path("body", "pytorch_lora_weights.safetensors"));
    const b = adapter.get("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight")!;
    expect(scope(() => b.abs().max().item())).toBeGreaterThan(0);
    for (const t of adapter.values()) t.dispose();
    const { frames } = await animate(avatar, { motion: avatar.folder, frames: 2, steps: 1, out: join(home, "adapted.mp4") });
    expect(frames).toBe(2);
    expect(await settledTensors()).toEqual(live);
    await expect(trainBody(avatar, { steps: 1, adapter: "lora", from: "nothing" })).rejects.toThrow(/leave out --from nothing/);
    await expect(trainBody(avatar, { steps: 1, rank: 4 })).rejects.toThrow(/ask for one with --adapter lora/);
  });

  it("ready conditions and another avatar's motion, with its sound", async () => {
    const avatar = Avatar.open(join(demo, "presenter"));
    const conditions = await animate(avatar, { conditions: avatar.path("conditions"), frames: 5, steps: 2, out: join(home, "ready.mp4") });
    expect(conditions.frames).toBe(5);
    const performed = await animate(avatar, { motion: avatar.folder, frames: 5, steps: 2, out: join(home, "own.mp4") });
    expect(performed.audio).toBe(avatar.path("clip", "audio.wav"));
    expect((await probeVideo(join(home, "own.mp4"))).hasAudio).toBe(true);
  });
});

describe("bad input: one clear sentence, exit code 1 or 2, nothing lost", () => {
  const clip = (name: string) => join(home, name);
  const avatarWith = (name: string, spoil: (folder: string) => void) => {
    const folder = join(home, name);
    cpSync(join(demo, "presenter"), folder, { recursive: true });
    spoil(folder);
    return `./${name}`;
  };
  const motion = () => {
    const data = new Float32Array(20 * 265);
    for (let f = 0; f < 20; f++) data[f * 265 + 9] = 3.07;
    return data;
  };
  const cases: [string, () => string[], number, RegExp, Record<string, string>?][] = [
    [
      "not a video",
      () => (writeFileSync(clip("text.mp4"), "hello"), ["create", "a", "--clip", "text.mp4"]),
      1,
      /text\.mp4: not a video that ffmpeg can read/,
    ],
    ["no such clip", () => ["create", "a", "--clip", "none.mp4"], 1, /none\.mp4: no such file/],
    [
      "a clip without a person",
      () => (ffmpeg("-f", "lavfi", "-i", "testsrc=d=2:s=320x240:r=25", clip("bars.mp4")), ["create", "a", "--clip", "bars.mp4"]),
      1,
      /no person was found .* use a clip of one person/,
    ],
    [
      "two people",
      () => (
        ffmpeg("-i", join(demo, "presenter.mp4"), "-vf", "split[a][b];[a][b]hstack", "-an", clip("two.mp4")),
        ["create", "a", "--clip", "two.mp4"]
      ),
      1,
      /more than one person is in view/,
    ],
    [
      "three frames",
      () => (ffmpeg("-i", join(demo, "presenter.mp4"), "-frames:v", "3", "-an", clip("three.mp4")), ["create", "a", "--clip", "three.mp4"]),
      1,
      /3 frames are too few/,
    ],
    ["an unknown preset", () => ["create", "a", "--clip", "x.mp4", "--preset", "huge"], 2, /expected mini or sd15/],
    ["an avatar that is there already", () => ["create", "./demo/presenter", "--clip", "x.mp4"], 2, /there is an avatar already/],
    ["no such avatar", () => ["train", "nobody"], 2, /no such avatar: make one with "anchor create nobody --clip FILE"/],
    [
      "a missing model file",
      () => [
        "animate",
        avatarWith("missing", (f) => rmSync(join(f, "body", "unet", "diffusion_pytorch_model.safetensors"))),
        "--motion",
        "./demo/new-speech.npz",
      ],
      1,
      /no weights there/,
    ],
    [
      "a missing model folder",
      () => [
        "animate",
        avatarWith("partial", (f) => rmSync(join(f, "body", "vae"), { recursive: true })),
        "--motion",
        "./demo/new-speech.npz",
      ],
      2,
      /vae missing: train the avatar first/,
    ],
    [
      "a truncated safetensors file",
      () => [
        "animate",
        avatarWith("short", (f) => truncateSync(join(f, "body", "vae", "diffusion_pytorch_model.safetensors"), 5000)),
        "--motion",
        "./demo/new-speech.npz",
      ],
      1,
      /not a usable safetensors file/,
    ],
    [
      "a motion with NaN",
      () => {
        const data = motion();
        data[3 * 265 + 40] = Number.NaN;
        writeFileSync(clip("nan.npy"), npyBytes({ shape: [20, 265], data }));
        return ["animate", "./demo/presenter", "--motion", "nan.npy"];
      },
      1,
      /bodyPose of frame 3 .* is NaN/,
    ],
    [
      "a motion of the wrong width",
      () => (
        writeFileSync(clip("wide.npy"), npyBytes({ shape: [4, 10], data: new Float32Array(40) })),
        ["animate", "./demo/presenter", "--motion", "wide.npy"]
      ),
      1,
      /expected an array \[frames, 265\]/,
    ],
    [
      "a frame that is no picture",
      () => ["train", avatarWith("poisoned", (f) => writeFileSync(join(f, "clip", "frames", "000003.png"), "nothing")), "--steps", "2"],
      1,
      /000003\.png: /,
    ],
    [
      "a frame of another size",
      () => [
        "train",
        avatarWith("odd", (f) => cpSync(join(demo, "contact-sheet.png"), join(f, "clip", "frames", "000004.png"))),
        "--steps",
        "2",
      ],
      1,
      /000004\.png: expected 128x128 pixels, got \d+x\d+/,
    ],
    ["a base that is none", () => ["train", "./demo/presenter", "--from", "./demo"], 2, /demo: vae, denoiser\/unet.* missing/],
    ["a rate out of range", () => ["train", "./demo/presenter", "--lr", "7"], 2, /^anchor: lr: .*got 7$/m],
    ["no motion at all", () => ["animate", "./demo/presenter"], 2, /give either a motion/],
    [
      "an empty conditions folder",
      () => (mkdirSync(clip("empty")), ["animate", "./demo/presenter", "--conditions", "empty"]),
      1,
      /no pictures there/,
    ],
    [
      "no write permission",
      () => ["create", "a", "--clip", "./demo/presenter.mp4", "--motion", "./demo/presenter.npz"],
      1,
      /cannot be written \(E\w+\): (you may not write there|that file system is read-only)/,
      { ANCHOR_HOME: "/sys" },
    ],
    [
      "libtorch missing",
      () => ["train", "./demo/presenter"],
      1,
      /addon is not built .* run "npm run setup"/,
      { ANCHOR_TORCH_ADDON: "/nowhere/anchor_torch.node" },
    ],
    [
      "libtorch broken",
      () => (writeFileSync(clip("broken.node"), "no library"), ["train", "./demo/presenter"]),
      1,
      /addon does not load/,
      { ANCHOR_TORCH_ADDON: join(home, "broken.node") },
    ],
    ["an unknown option", () => ["train", "x", "--mintues", "3"], 2, /unknown option '--mintues'/],
    ["a number that is none", () => ["train", "./demo/presenter", "--minutes", "soon"], 2, /minutes: expected a number above 0/],
  ];
  for (const [what, args, code, message, env] of cases) {
    it(what, () => {
      const run = anchor(args(), env);
      expect(run.err).toMatch(message);
      expect(run.err).not.toMatch(/\n\s+at /); // no stack trace
      expect(run.code).toBe(code);
      expect(existsSync(join(home, "avatars", "a"))).toBe(false);
      expect(existsSync(join(home, "avatars", "a.creating"))).toBe(false);
      expect(Avatar.open(join(demo, "presenter")).trained).toBe(true);
    });
  }

  it("pictures that cannot be used are left out and counted where that is asked for", () => {
    const name = avatarWith("skipping", (f) => {
      writeFileSync(join(f, "clip", "frames", "000003.png"), "nothing");
      rmSync(join(f, "conditions", "000007.png"));
      rmSync(join(f, "runs"), { recursive: true });
    });
    const { code, out, err } = anchor(["train", name, "--steps", "2", "--validate", "0", "--skip-bad", "--json"]);
    expect(code, err).toBe(0);
    const { skipped, busy } = JSON.parse(out) as { skipped: string[]; busy: number };
    expect(skipped.map((s) => /\d{6}\.png/.exec(s)?.[0])).toEqual(["000003.png", "000007.png"]);
    expect(busy).toBeGreaterThan(0.5);
  });

  it("a full disk (skipped where no file system can be mounted)", (context) => {
    // A file system of 400 kB stands for a full disk; making one needs root.
    const disk = join(home, "disk");
    mkdirSync(disk);
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]).status !== 0)
      context.skip("mounting a file system needs root");
    let run: ReturnType<typeof anchor>;
    try {
      run = anchor(["create", "a", "--clip", "./demo/presenter.mp4", "--motion", "./demo/presenter.npz"], { ANCHOR_HOME: disk });
    } finally {
      spawnSync("umount", [disk]);
    }
    expect(run.err).toMatch(/disk (is )?full/);
    expect(run.err).not.toMatch(/\n\s+at /);
    expect(run.code).toBe(1);
  });

  it("--json gives errors as JSON too", () => {
    const run = anchor(["train", "nobody", "--json"]);
    expect(JSON.parse(run.out).error).toMatchObject({ code: "NO_AVATAR" });
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
