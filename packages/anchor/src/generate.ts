/** Sampling an avatar's frames from condition pictures. */
import { Generator, keep, scope, type Tensor } from "@make-your-anchor/torch";
import { createSampler, sampleBody, startOf, type Sampler, type SamplerName, type SchedulerConfig } from "@make-your-anchor/diffusion";
import { bytesTruncated, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import type { View } from "./draft/view.ts";
import { fromPlanes } from "./dataset.ts";
import { chooseCompute, loading, type ComputeOptions } from "./compute.ts";
import { embedPrompts, loadModels, type LoadedModels } from "./models/load.ts";
import { presets } from "./presets.ts";

/** How frames are sampled, whatever they are of. */
export interface SamplingOptions {
  /** `"reference"`: the original's settings (steps, guidance, scales, windows, seed) whatever the preset. */
  sampling?: "preset" | "reference";
  /** Default ddim, as the original. */
  sampler?: SamplerName;
  /** Of ddim: 0 deterministic (default) … 1. */
  eta?: number;
  /** Denoising steps; default the preset's. */
  steps?: number;
  guidanceScale?: number;
  /** What guidance leads away from, in words; default nothing. Needs a preset with a text encoder. */
  negativePrompt?: string;
  seed?: number;
  windowSize?: number;
  windowOverlap?: number;
}

export const samplingKeys = [
  "sampling",
  "sampler",
  "eta",
  "steps",
  "guidanceScale",
  "negativePrompt",
  "seed",
  "windowSize",
  "windowOverlap",
] as const satisfies readonly (keyof SamplingOptions)[];

/** Those of some options that are such. */
export const samplingOf = (o: SamplingOptions): SamplingOptions => Object.fromEntries(samplingKeys.map((k) => [k, o[k]]));

export interface GenerateOptions extends ComputeOptions, SamplingOptions {
  frames: number;
  condition: (frame: number) => RgbImage | Promise<RgbImage>;
  /** How the camera sees the background of a frame; default unmoved. */
  view?: (frame: number) => View | undefined;
  firstFrame?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** What every frame is sampled from, `[1, channels, 1, side, side]`; the caller's. */
export const startNoise = (
  g: Generator,
  sampler: Sampler,
  scheduler: Partial<SchedulerConfig>,
  [channels, side]: readonly [number, number],
): Tensor => scope(() => keep(startOf(sampler, scheduler, g.randn([1, channels, 1, side, side]))));

/** Frames one by one, in order, in memory bounded by the window. */
export async function* generateFrames(
  avatar: Avatar,
  o: GenerateOptions,
): AsyncGenerator<{ index: number; image: RgbImage }, void, undefined> {
  const s = presets[o.sampling === "reference" ? "sd15" : avatar.info.preset].sampling;
  const guidanceScale = o.guidanceScale ?? s.guidanceScale;
  const load = loading(chooseCompute(o, "rendering"));
  // Before the UNet is opened: the encoders are gone by then.
  const { promptEmbeds, negativePromptEmbeds } = await embedPrompts(avatar, guidanceScale !== 1, o.negativePrompt, load);
  const owned: Tensor[] = [promptEmbeds, ...(negativePromptEmbeds ? [negativePromptEmbeds] : [])];
  let body: LoadedModels | undefined;
  const own = (t: Tensor) => {
    owned.push(keep(t));
    return t;
  };
  try {
    const models = loadModels(avatar, "body", load);
    body = models;
    const { draft } = models;
    const size = avatar.info.resolution;
    const latent = size / models.vae.factor;
    using g = new Generator(o.seed ?? s.seed);
    const sampler = createSampler(o.sampler ?? "ddim", models.scheduler, o.steps ?? s.steps, { eta: o.eta });
    const noise = own(startNoise(g, sampler, models.scheduler, [models.vae.config.latent_channels, latent]));
    // One draw a step, for all frames: what frames do not share would flicker.
    const stepNoise = sampler.noisy
      ? sampler.timesteps.map(() => own(g.randn([1, models.vae.config.latent_channels, latent, latent])))
      : [];
    const frames = sampleBody(models, {
      frames: o.frames,
      condition: o.condition,
      draft: draft && ((condition, frame) => draft.draw(condition, o.view?.(frame))),
      promptEmbeds,
      negativePromptEmbeds,
      noise,
      width: size,
      height: size,
      windowSize: o.windowSize ?? s.windowSize,
      windowOverlap: o.windowOverlap ?? s.windowOverlap,
      sampler,
      stepNoise: (step) => stepNoise[step],
      guidanceScale,
      controlnetConditioningScale: s.controlnetConditioningScale,
      aliased: s.aliased,
      firstFrame: o.firstFrame,
      signal: o.signal,
      onProgress: o.onProgress,
    });
    for await (const { index, pixels } of frames) yield { index, image: fromPlanes(bytesTruncated(pixels), size, size) };
  } finally {
    body?.dispose();
    for (const t of owned) t.dispose();
  }
}
