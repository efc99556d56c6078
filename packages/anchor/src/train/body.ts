/** `train body`: the VAE of the mini preset, then UNet and ControlNet on its latents. */
import { existsSync, renameSync, rmSync } from "node:fs";
import { cat, fromData, Generator, keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { bodyLoss, DDPMScheduler, saveModel, type AutoencoderKL } from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import { Avatar } from "../avatar.ts";
import { loadFrames, type PictureSet } from "../dataset.ts";
import { AnchorError } from "../errors.ts";
import { diffusersConfig, embedAppearance, saveScheduler, startImageEncoder, startModels, startVae } from "../models.ts";
import { presets } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { trainLoop } from "./loop.ts";
import { TrainingRun } from "./run.ts";
import { trainVae } from "./vae.ts";

export interface TrainOptions extends WorkOptions {
  /** Time to train, about; default 20 unless `steps` is given. */
  minutes?: number;
  /** Steps of UNet and ControlNet; the VAE gets a third as many. */
  steps?: number;
  /** Starts over instead of going on with an interrupted run. */
  fresh?: boolean;
}

export interface TrainResult {
  run: string;
  steps: { vae: number; body: number };
  seconds: number;
}

/** Frames encoded at once when latents are cached. */
const encodeBatch = 8;

/** Latents of every frame, before scaling, `[F, C, h, w]`. */
function encodeAll(vae: AutoencoderKL, frames: PictureSet): Tensor {
  const parts: Tensor[] = [];
  for (let i = 0; i < frames.length; i += encodeBatch) {
    const indices = Array.from({ length: Math.min(encodeBatch, frames.length - i) }, (_, k) => i + k);
    parts.push(scope(() => noGrad(() => vae.encode(frames.batch(indices).to("float32").div(127.5).sub(1)).mean)));
  }
  return scope(() => cat(parts, 0));
}

/** Trains an avatar's body model. Interrupted, the same call goes on where it stopped; the last part of the clip is never looked at. */
export async function trainBody(avatar: Avatar, o: TrainOptions = {}): Promise<TrainResult> {
  const started = performance.now();
  const preset = presets[avatar.info.preset];
  const minutes = o.minutes ?? (o.steps === undefined ? 20 : undefined);
  for (const [name, v] of [
    ["minutes", minutes],
    ["steps", o.steps],
  ] as const) {
    if (v !== undefined && !(v > 0 && Number.isFinite(v)))
      throw new AnchorError("OPTION", `${name}: expected a number above 0, got ${v}`, { misuse: true });
  }
  const runs = avatar.path("runs");
  let run = o.fresh ? undefined : TrainingRun.unfinished(runs);
  run ??= TrainingRun.create(runs, {
    target: "body",
    preset: preset.name,
    plan:
      o.steps === undefined
        ? { vae: [], body: [] }
        : { vae: [{ step: 0, total: Math.max(1, Math.round(o.steps / 3)) }], body: [{ step: 0, total: Math.max(1, Math.round(o.steps)) }] },
    minutes: minutes ?? null,
    seed: 5,
    finished: false,
  });
  const resume = run.latest();
  run.rewindMetrics(resume);
  const seconds = (run.config.minutes ?? 20) * 60;

  const { frames, conditions } = await loadFrames(avatar, 0, avatar.info.heldOutFrom);
  const vae = startVae(preset);
  const encoder = startImageEncoder(preset);
  const { unet, controlnet } = startModels(preset);
  const owned: Tensor[] = [];
  try {
    if (resume?.phase === "body") {
      using file = run.openFile(resume, "vae");
      vae.loadStateDict(file, { what: file.path });
    } else {
      await trainVae(vae, frames, preset, {
        run,
        plan: run.config.plan.vae,
        seconds: seconds * preset.training.vaeShare,
        resume,
        onPlanned: (plan) => {
          run.config.plan.vae = plan.slice();
          run.save();
        },
        onProgress: o.onProgress,
        signal: o.signal,
      });
    }

    const raw = keep(encodeAll(vae, frames));
    owned.push(raw);
    const scale = 1 / scope(() => noGrad(() => Math.sqrt(raw.sub(raw.mean()).square().mean().item())));
    vae.config.scaling_factor = Number(scale.toPrecision(6));
    const latents = keep(noGrad(() => raw.mul(vae.config.scaling_factor)));
    const appearance = keep(embedAppearance(encoder, await readImage(avatar.frame(0))));
    owned.push(latents, appearance);

    const scheduler = new DDPMScheduler(preset.scheduler);
    const t = preset.training;
    const n = frames.length;
    const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
    const left = Math.max(30, seconds - (performance.now() - started) / 1000);
    await trainLoop({
      run,
      phase: "body",
      // Latents of another VAE would mean nothing to these weights.
      alsoSaved: () => ({ vae: vae.stateDict() }),
      stage: "training the body model",
      parameters: named,
      clipped: preset.models ? named.map(([, p]) => p) : controlnet.parameters(),
      maxGradNorm: t.maxGradNorm,
      lr: t.lr,
      weightDecay: t.weightDecay,
      emaDecay: t.emaDecay,
      seed: run.config.seed,
      plan: run.config.plan.body,
      seconds: left,
      resume,
      onPlanned: (plan) => {
        run.config.plan.body = plan.slice();
        run.save();
      },
      onProgress: o.onProgress,
      signal: o.signal,
      loss: (step, g) => {
        const indices = batchIndices(n, t.batch, step, run.config.seed);
        const index = fromData(BigInt64Array.from(indices, BigInt), [indices.length]);
        const clean = latents.indexSelect(0, index);
        const timesteps = drawTimesteps(g, t.batch, scheduler.config.num_train_timesteps);
        return bodyLoss(
          { unet, controlnet, scheduler },
          {
            latents: clean,
            noise: g.randn(clean.shape),
            timesteps,
            context: appearance.expand([t.batch, appearance.size(1), appearance.size(2)]),
            condition: conditions.batch(indices).to("float32").div(255),
          },
        );
      },
    });

    const body = avatar.path("body");
    const fresh = avatar.path("body.new");
    rmSync(fresh, { recursive: true, force: true });
    saveModel(`${fresh}/unet`, unet, diffusersConfig(unet));
    saveModel(`${fresh}/controlnet`, controlnet, diffusersConfig(controlnet));
    saveModel(`${fresh}/vae`, vae, diffusersConfig(vae));
    saveModel(
      `${fresh}/image_encoder`,
      encoder,
      { architectures: ["CLIPVisionModel"], model_type: "clip_vision_model", ...encoder.config },
      "model.safetensors",
    );
    saveScheduler(fresh, scheduler.config);
    replaceFolder(fresh, body);
    run.config.finished = true;
    run.save();
    return {
      run: run.folder,
      steps: { vae: run.config.plan.vae.at(-1)?.total ?? 0, body: run.latest()!.step },
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    for (const m of [vae, encoder, unet, controlnet]) m.dispose();
    for (const x of owned) x.dispose();
  }
}

function replaceFolder(from: string, to: string): void {
  const old = `${to}.old`;
  rmSync(old, { recursive: true, force: true });
  if (existsSync(to)) renameSync(to, old);
  renameSync(from, to);
  rmSync(old, { recursive: true, force: true });
}

/** Every frame once an epoch, in an order of its own. */
function batchIndices(n: number, batch: number, step: number, seed: number): number[] {
  const out: number[] = [];
  for (let k = step * batch; k < (step + 1) * batch; k++) {
    const epoch = Math.floor(k / n);
    if (order?.epoch !== epoch || order.n !== n || order.seed !== seed) {
      using g = new Generator(seed * 7919 + epoch);
      order = { epoch, n, seed, indices: scope(() => Array.from(g.randperm(n).data(), Number)) };
    }
    out.push(order.indices[k % n]);
  }
  return out;
}
let order: { epoch: number; n: number; seed: number; indices: number[] } | undefined;

/** One timestep a sample, spread over the batch (one in each of `batch` strata), leaning to the noisy end, where the picture is decided. */
function drawTimesteps(g: Generator, batch: number, count: number): number[] {
  const u = scope(() => g.rand([batch]).floats());
  return Array.from(u, (x, b) => Math.min(count - 1, Math.floor(((b + x) / batch) ** 0.7 * count)));
}
