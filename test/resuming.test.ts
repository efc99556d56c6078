/** Interrupted and gone on: creating, training, rendering; several processes, adapters, other sources of motion. */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { animate, Avatar, createAvatar, trainBody } from "@make-your-anchor/anchor";
import { loadMotion, saveMotion } from "@make-your-anchor/body";
import { probeVideo } from "@make-your-anchor/media";
import { loadSafetensors, scope } from "@make-your-anchor/torch";
import { settledTensors } from "./live-tensors.ts";
import { main, studio } from "./studio.ts";

const { home, demo, env, anchor } = studio();

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

  it("a second training of the same part is refused while the first is under way", async () => {
    const avatar = copy("claimed");
    const abort = new AbortController();
    let refused: Promise<unknown> | undefined;
    const onProgress = ({ stage }: { stage: string }) => {
      if (stage !== "training the VAE's decoder" || refused) return;
      refused = expect(trainBody(avatar, { steps: 9 })).rejects.toThrow(/body is being trained already, by this process/);
      void refused.finally(() => abort.abort());
    };
    await expect(trainBody(avatar, { steps: 9, signal: abort.signal, onProgress })).rejects.toThrow("abort");
    await refused;
    expect(refused).toBeDefined();
    expect(readdirSync(avatar.path("runs")).filter((f) => f.endsWith(".lock"))).toEqual([]);
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
    await create({ stage: "finding landmarks", at: 12 });
    // A mark on what was seen shows that it is not looked for again.
    const log = `${folder}.creating/detections.jsonl`;
    const marked = readFileSync(log, "utf8").replace('{"frame":0,', '{"mark":1,"frame":0,');
    expect(marked).toContain("mark");
    writeFileSync(log, marked);
    await create({ stage: "finding landmarks", at: 30 });
    expect(readFileSync(log, "utf8")).toContain("mark");
    expect(readFileSync(log, "utf8").trim().split("\n").length).toBeGreaterThanOrEqual(30);
    expect(await create({ stage: "fitting the body", at: 3 })).toContain("finding landmarks");
    expect(Avatar.exists(folder)).toBe(false);
    expect(await create({ stage: "drawing conditions", at: 5 })).toEqual(["fitting the body", "drawing conditions"]);
    expect(await create()).toEqual(["drawing conditions", "following the camera"]);
    expect(readdirSync(Avatar.open(folder).path("conditions"))).toHaveLength(40);
    expect(existsSync(`${folder}.creating`)).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(["avatar.json", "clip", "conditions", "motion.npz"]);
  });

  it("a clip of somebody else moves the avatar, with its sound; its motion is found once", async () => {
    const avatar = copy("driven");
    const clip = join(home, "elsewhere.mp4");
    execFileSync("ffmpeg", ["-v", "error", "-i", join(demo, "presenter.mp4"), "-t", "0.64", clip]);
    /** The stages seen until `stop`. */
    const perform = async (stop?: string): Promise<string[]> => {
      const seen = new Set<string>();
      const abort = new AbortController();
      const onProgress = (p: { stage: string; done: number }) => {
        seen.add(p.stage);
        if (p.stage === stop && p.done >= 3) abort.abort();
      };
      const run = animate(avatar, { motion: clip, frames: 2, steps: 1, signal: abort.signal, onProgress });
      if (stop) await expect(run).rejects.toThrow();
      else expect(await run).toMatchObject({ frames: 2, audio: clip });
      return [...seen];
    };
    const folder = avatar.path("videos", "elsewhere");
    expect(await perform("fitting the body")).toEqual(["finding the person", "finding landmarks", "fitting the body"]);
    expect(readdirSync(folder)).toEqual(["detections.jsonl"]);
    expect(await perform()).toContain("rendering");
    expect(readdirSync(folder).sort()).toEqual(["frames", "job.json", "motion.json", "motion.npz", "report.json", "video.mp4"]);
    expect(await perform()).toEqual(["encoding"]);
    expect(loadMotion(join(folder, "motion.npz")).frames).toBe(16);
  });

  it("Ctrl-C stops after the step, says so, and the same command goes on", async () => {
    copy("stopped");
    const args = [main, "train", "./stopped", "body", "--steps", "6"];
    const child = spawn(process.execPath, args, { env });
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
      const args = ["train", `./processes-${count}`, "body", "--steps", "9", "--validate", "0", "--nproc", String(count), "--json"];
      const { code, out, err } = anchor(args);
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
    expect(readdirSync(avatar.path("body")).sort()).toEqual([
      "draft.safetensors",
      "pytorch_lora_weights.safetensors",
      "training.json",
      "vae",
    ]);
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

    // Its own camera's movement goes with its own motion, and with no other.
    const panned = copy("panned");
    const motion = loadMotion(panned.motionPath);
    motion.views = Float32Array.from({ length: 6 * motion.frames }, (_, k) => [1, 0, 0.2, 0, 1, 0][k % 6]);
    saveMotion(panned.motionPath, motion);
    const first = async (from: string, name: string) => {
      const { folder } = await animate(panned, { motion: from, frames: 1, steps: 1, out: join(home, name) });
      return readFileSync(join(folder, "frames", "000001.png"));
    };
    const still = await first(avatar.motionPath, "still.mp4");
    expect(await first(panned.folder, "panned.mp4")).not.toEqual(still);
    expect(await first(panned.motionPath, "panned-file.mp4")).not.toEqual(still);
    cpSync(panned.motionPath, join(home, "elsewhere.npz"));
    expect(await first(join(home, "elsewhere.npz"), "elsewhere.mp4")).toEqual(still);
  });
});
