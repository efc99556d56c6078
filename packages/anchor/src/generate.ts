/** Sampling an avatar's frames from condition pictures. */
import { Generator, keep, noGrad, zerosLike, type Tensor } from "@make-your-anchor/torch";
import { sampleBody } from "@make-your-anchor/diffusion";
import { bytesTruncated, readImage, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { fromPlanes } from "./dataset.ts";
import { embedAppearance, loadBody } from "./models.ts";
import { presets } from "./presets.ts";

export interface GenerateOptions {
  frames: number;
  condition: (frame: number) => RgbImage | Promise<RgbImage>;
  /** Denoising steps; default the preset's. */
  steps?: number;
  guidanceScale?: number;
  seed?: number;
  windowSize?: number;
  windowOverlap?: number;
  firstFrame?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Frames one by one, in order, in memory bounded by the window. */
export async function* generateFrames(
  avatar: Avatar,
  o: GenerateOptions,
): AsyncGenerator<{ index: number; image: RgbImage }, void, undefined> {
  const body = loadBody(avatar);
  const owned: Tensor[] = [];
  const own = (t: Tensor) => {
    owned.push(keep(t));
    return t;
  };
  try {
    const s = presets[avatar.info.preset].sampling;
    const size = avatar.info.resolution;
    const latent = size / body.vae.factor;
    using g = new Generator(o.seed ?? s.seed);
    const promptEmbeds = own(embedAppearance(body.imageEncoder, await readImage(avatar.frame(0))));
    const guidanceScale = o.guidanceScale ?? s.guidanceScale;
    const noise = own(g.randn([1, body.vae.config.latent_channels, 1, latent, latent]));
    const frames = sampleBody(body, {
      frames: o.frames,
      condition: o.condition,
      promptEmbeds,
      // Without a text encoder the other branch of the guidance is the empty appearance.
      negativePromptEmbeds: guidanceScale === 1 ? undefined : own(noGrad(() => zerosLike(promptEmbeds))),
      noise,
      width: size,
      height: size,
      windowSize: o.windowSize ?? s.windowSize,
      windowOverlap: o.windowOverlap ?? s.windowOverlap,
      steps: o.steps ?? s.steps,
      guidanceScale,
      controlnetConditioningScale: s.controlnetConditioningScale,
      aliased: s.aliased,
      firstFrame: o.firstFrame,
      signal: o.signal,
      onProgress: o.onProgress,
    });
    for await (const { index, pixels } of frames) yield { index, image: fromPlanes(bytesTruncated(pixels), size, size) };
  } finally {
    body.dispose();
    for (const t of owned) t.dispose();
  }
}
