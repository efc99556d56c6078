/**
 * Batch-overlapped temporal denoising: the original's `generate_long_video_slidingwindow_overlap`, frame by frame, in memory
 * bounded by the window.
 *
 * The original runs one denoising step over all windows of the video before the next, so its latents grow with the video. A
 * window needs from the step before only the frames it covers; so the steps can follow each other through the video like a wave,
 * each a window behind the one before, with the same arithmetic and the same result. Alive at any time are `steps` bands of a
 * window's length, and frames come out as the last step passes them.
 */
import { setImmediate as breathe } from "node:timers/promises";
import { cat, expectShape, fromData, keep, noGrad, scope, TorchError, type Tensor } from "@make-your-anchor/torch";
import { resizePil, type RgbImage } from "@make-your-anchor/media";
import type { AutoencoderKL } from "../models/autoencoder-kl.ts";
import type { ControlNetModel } from "../models/controlnet.ts";
import type { UNet3DConditionModel } from "../models/unet-2d-condition.ts";
import type { Sampler, SamplerState } from "../schedulers/run.ts";
import { headInputs, pictureLatents } from "./head-pipeline.ts";
import { overlapWindows } from "./windows.ts";

export interface BodyModels {
  unet: UNet3DConditionModel;
  controlnet: ControlNetModel;
  vae: AutoencoderKL;
}

export interface BodySampling {
  frames: number;
  /** Condition picture of a frame, asked once each, in order; resized by PIL's Lanczos where its size differs. */
  condition: (frame: number) => RgbImage | Promise<RgbImage>;
  /** Appearance, `[1, M, C]`, on any device. */
  promptEmbeds: Tensor;
  /** The other branch of the guidance, `[1, M, C]`; not needed where `guidanceScale` is 1. */
  negativePromptEmbeds?: Tensor;
  /** Initial noise `[1, latent channels, 1, h, w]`, shared by all frames, on any device. */
  noise: Tensor;
  width: number;
  height: number;
  /** Default 16. */
  windowSize?: number;
  /** Default 4. */
  windowOverlap?: number;
  sampler: Sampler;
  /** Noise of a step, `[1, latent channels, h, w]`, shared by all frames; needed where the sampler is noisy. Owned by the callee. */
  stepNoise?: (step: number) => Tensor;
  /** 1 leaves the guidance out: one branch instead of two. Default 7.5. */
  guidanceScale?: number;
  /** Default 2. */
  controlnetConditioningScale?: number;
  /** Frames before it are not asked for and not yielded; those from it on come out as in a run from the start. */
  firstFrame?: number;
  /** Mid block sees the last down residual, as the original's inference and unlike its training. Default true. */
  aliased?: boolean;
  /**
   * Paints a part of given pictures anew (an inpainting UNet of 2·C + 1 input channels): picture and mask of a frame, of the video's size,
   * asked once each, in order, after its condition. The mask is black where it is to be painted, as in `sampleHead`.
   */
  inpaint?: (frame: number) => Inpainting | Promise<Inpainting>;
  /**
   * What a frame is painted from: a picture of the video's size for a frame's condition of that size. Without `inpaint` all of the frame (a UNet of 2·C
   * input channels); with it the part that is painted anew.
   */
  draft?: (condition: RgbImage, frame: number) => RgbImage;
  signal?: AbortSignal;
  /** Called after each window of each step. */
  onProgress?: (done: number, total: number) => void;
  /** Latents `[n, C, h, w]` of frames `from` … after step `step`; not owned by the callee. */
  onLatents?: (step: number, from: number, latents: Tensor) => void;
}

export interface Inpainting {
  image: RgbImage;
  mask: RgbImage;
}

export interface SampledFrame {
  index: number;
  /** `[3, height, width]`, values 0..1. */
  pixels: Float32Array;
}

/** Frames of one step whose windows are not all done: running sums of the predictions. */
interface Carry {
  from: number;
  counts: number[];
  /** One for each guidance branch, `[n, C, h, w]`. */
  sums: Tensor[];
}

/** Largest memory the embedded conditions may take; above it they are computed anew in each step. */
const embeddedBudget = 256 << 20;

export async function* sampleBody(models: BodyModels, o: BodySampling): AsyncGenerator<SampledFrame, void, undefined> {
  const { unet, controlnet, vae } = models;
  const { sampler } = o;
  const { windowSize = 16, windowOverlap = 4, guidanceScale = 7.5, controlnetConditioningScale = 2, firstFrame = 0 } = o;
  const guided = guidanceScale !== 1;
  expectShape("noise", o.noise, [1, vae.config.latent_channels, 1, o.height / vae.factor, o.width / vae.factor]);
  if (guided && !o.negativePromptEmbeds) throw new TorchError("GUIDANCE", "guidance needs negativePromptEmbeds, or a guidanceScale of 1");
  const beside = o.inpaint || o.draft !== undefined;
  const wanted = vae.config.latent_channels * (beside ? 2 : 1) + (o.inpaint ? 1 : 0);
  if (unet.config.in_channels !== wanted)
    throw new TorchError(
      "CONFIG",
      `the UNet: expected in_channels ${wanted}${o.inpaint ? " (an inpainting model)" : o.draft ? " (one that paints from drafts)" : ""}, got ${unet.config.in_channels}`,
    );
  const windows = overlapWindows(o.frames, windowSize, windowOverlap);
  const stride = windowSize - windowOverlap;
  const span = Math.ceil(windowSize / stride); // segments a window covers
  const { timesteps } = sampler;
  const steps = timesteps.length;
  if (sampler.noisy && !o.stepNoise) throw new TorchError("NOISE", "this sampler adds noise at each step: give stepNoise");
  // A frame's result depends on one window further to the left with each step.
  const firstWindow = Math.max(0, Math.floor(firstFrame / stride) - (span - 1) * (steps + 1));
  const [, channels, , h, w] = o.noise.shape;
  // Latents stay float32 whatever the networks compute in: their sums over steps and windows are cheap, and half precision shows there.
  const noise = keep(scope(() => noGrad(() => o.noise.to("float32").to(unet.device).reshape([1, channels, h, w]))));
  const context = keep(
    scope(() =>
      noGrad(() => (guided ? cat([o.negativePromptEmbeds!, o.promptEmbeds], 0) : o.promptEmbeds.clone()).to(unet.device).to(unet.dtype)),
    ),
  ); // [branches, M, C]
  const branches = guided ? 2 : 1;

  const segmentEnd = (s: number) => Math.min(o.frames, (s + 1) * stride);
  /** levels[k]: latents before step k, by segment; level 0 is the noise everywhere. */
  const levels: Map<number, Tensor>[] = timesteps.map(() => new Map());
  /** What the sampler keeps of the step before k, by segment. */
  const states: Map<number, SamplerState>[] = timesteps.map(() => new Map());
  const carries: (Carry | undefined)[] = timesteps.map(() => undefined);
  const conditions = new Map<number, Uint8Array>();
  const embedded = new Map<number, Tensor>();
  /** Mask and masked picture as latents, `[1, C + 1, h, w]`, or the draft, `[1, C, h, w]`, by frame. */
  const further = new Map<number, Tensor>();
  const bytesPerEmbedded = (controlnet.config.block_out_channels[0] * h * w * 4) as number;
  const cacheEmbedded = bytesPerEmbedded * (steps + span) * stride * (span - 1 || 1) < embeddedBudget;

  const dispose = () => {
    for (const level of levels) for (const t of level.values()) t.dispose();
    for (const level of states) for (const state of level.values()) for (const t of state) t.dispose();
    for (const c of carries) for (const t of c?.sums ?? []) t.dispose();
    for (const t of [...embedded.values(), ...further.values()]) t.dispose();
    noise.dispose();
    context.dispose();
  };

  const pixelsOf = (from: number, to: number): Tensor => {
    const plane = o.width * o.height;
    const out = new Float32Array((to - from) * 3 * plane);
    for (let f = from; f < to; f++) {
      const data = conditions.get(f)!;
      const at = (f - from) * 3 * plane;
      for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) out[at + c * plane + i] = data[3 * i + c] / 255;
    }
    return fromData(out, [to - from, 3, o.height, o.width], { device: unet.device }).to(unet.dtype);
  };

  const embeddedOf = (from: number, to: number): Tensor => {
    if (!cacheEmbedded) return controlnet.condEmbedding.forward(pixelsOf(from, to));
    const fresh = from + [...Array(to - from).keys()].findIndex((i) => !embedded.has(from + i));
    if (fresh >= from) {
      const batch = controlnet.condEmbedding.forward(pixelsOf(fresh, to));
      for (let f = fresh; f < to; f++) {
        embedded.set(f, keep(batch.narrow(0, f - fresh, 1).clone()));
        conditions.delete(f);
      }
    }
    return cat(
      [...Array(to - from).keys()].map((i) => embedded.get(from + i)!),
      0,
    );
  };

  /** Latents before step k of the frames of a window. */
  const latentsAt = (k: number, from: number, to: number): Tensor => {
    if (k === 0) return noise.expand([to - from, channels, h, w]);
    const parts: Tensor[] = [];
    for (let s = Math.floor(from / stride); s * stride < to; s++) {
      const t = levels[k].get(s)!;
      parts.push(segmentEnd(s) > to ? t.narrow(0, 0, to - s * stride) : t);
    }
    return parts.length === 1 ? parts[0] : cat(parts, 0);
  };

  /** Runs step k on window v; returns the latents after the step of the segment that is now complete. */
  const runWindow = (k: number, v: number): Tensor =>
    scope(() =>
      noGrad(() => {
        const { from, to } = windows[v];
        const n = to - from;
        const x = latentsAt(k, from, to);
        const input = (branches === 2 ? cat([x, x], 0) : x.contiguous()).to(unet.dtype);
        const more = [...Array(beside ? n : 0).keys()].map((i) => further.get(from + i)!);
        const seen = more.length > 0 ? cat([input, cat(branches === 2 ? [...more, ...more] : more, 0)], 1) : input;
        const t = fromData(
          BigInt64Array.from({ length: branches }, () => BigInt(timesteps[k])),
          [branches],
          { device: unet.device },
        );
        const condition = embeddedOf(from, to);
        const residuals = controlnet.forwardEmbedded(input, t, context, branches === 2 ? cat([condition, condition], 0) : condition, {
          scale: controlnetConditioningScale,
          frames: n,
        });
        const predicted = unet
          .forwardFrames(seen, n, t, context, residuals, { aliased: o.aliased ?? true })
          .to("float32")
          .chunk(branches, 0);

        // Average over windows: this window's predictions join those carried over from the windows before.
        const carried = carries[k];
        const sums = predicted.map((p, b) => {
          if (!carried) return p;
          const overlapping = Math.min(carried.counts.length, n);
          const head = p.narrow(0, 0, overlapping).add(carried.sums[b].narrow(0, 0, overlapping));
          return overlapping < n ? cat([head, p.narrow(0, overlapping, n - overlapping)], 0) : head;
        });
        const counts = Array.from({ length: n }, (_, i) => 1 + (carried?.counts[i] ?? 0));
        for (const s of carried?.sums ?? []) s.dispose();
        const done = (v === windows.length - 1 ? to : windows[v + 1].from) - from;
        carries[k] =
          done < n
            ? { from: from + done, counts: counts.slice(done), sums: sums.map((s) => keep(s.narrow(0, done, n - done).clone())) }
            : undefined;

        const divide = fromData(Float32Array.from(counts.slice(0, done)), [done, 1, 1, 1], { device: unet.device });
        const mean = sums.map((s) => s.narrow(0, 0, done).div(divide));
        const output = branches === 2 ? mean[0].add(mean[1].sub(mean[0]).mul(guidanceScale)) : mean[0];
        const before = states[k].get(v) ?? [];
        const stepNoise = sampler.noisy ? o.stepNoise!(k).to("float32").to(unet.device).expand([done, channels, h, w]) : undefined;
        const next = sampler.step(k, output, x.narrow(0, 0, done), before, stepNoise);
        if (k + 1 < steps) states[k + 1].set(v, next.state.map(keep));
        for (const t of before) t.dispose();
        states[k].delete(v);
        return keep(next.sample);
      }),
    );

  const total = (windows.length - firstWindow) * steps;
  let finished = 0;
  let asked = windows[firstWindow]?.from ?? 0;
  try {
    for (let tick = firstWindow; tick < windows.length + steps * (span - 1); tick++) {
      for (; tick < windows.length && asked < windows[tick].to; asked++) {
        const given = await o.condition(asked);
        const picture = given.width === o.width && given.height === o.height ? given : resizePil(given, o.width, o.height, "lanczos");
        conditions.set(asked, picture.data);
        if (beside) {
          const inpaint = await o.inpaint?.(asked);
          const drafts = o.draft && [o.draft(picture, asked)];
          const latents = scope(() =>
            noGrad(() => {
              if (!inpaint) return keep(pictureLatents(vae, drafts!).to(unet.device).to(unet.dtype).clone());
              const { maskLatents, maskedImageLatents } = headInputs(vae, [inpaint.image], [inpaint.mask], { drafts });
              return keep(cat([maskLatents, maskedImageLatents], 1).to(unet.device).to(unet.dtype));
            }),
          );
          further.set(asked, latents);
        }
      }
      for (let k = 0; k < steps; k++) {
        const v = tick - k * (span - 1);
        if (v < firstWindow || v >= windows.length) continue;
        o.signal?.throwIfAborted();
        const next = runWindow(k, v);
        o.onLatents?.(k, windows[v].from, next);
        levels[k].get(v)?.dispose();
        levels[k].delete(v);
        finished++;
        o.onProgress?.(finished, total);
        await breathe();
        if (k + 1 < steps) {
          levels[k + 1].set(v, next);
          continue;
        }
        // Whoever takes the frames may stop in the middle of them.
        try {
          const count = next.size(0);
          for (let i = 0; i < count; i++) {
            const index = windows[v].from + i;
            conditions.delete(index);
            embedded.get(index)?.dispose();
            embedded.delete(index);
            further.get(index)?.dispose();
            further.delete(index);
            if (index < firstFrame) continue;
            const pixels = scope(() =>
              noGrad(() => {
                const z = next.narrow(0, i, 1).mul(1 / vae.config.scaling_factor);
                return vae.decode(z.to(vae.dtype)).to("float32").div(2).add(0.5).clamp(0, 1).floats();
              }),
            );
            yield { index, pixels };
          }
        } finally {
          next.dispose();
        }
      }
    }
  } finally {
    dispose();
  }
}
