/** The head stage: faces of finished body frames painted anew, window by window, and pasted back. */
import { Generator, type Tensor } from "@make-your-anchor/torch";
import { createSampler, overlapWindows, sampleBody } from "@make-your-anchor/diffusion";
import { FaceTrack, pasteBack, type FaceSight, type FaceState, type TrackedFace } from "@make-your-anchor/face";
import { blankImage, bytesRounded, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { chooseCompute, loading, type ComputeOptions } from "../compute.ts";
import { fromPlanes } from "../dataset.ts";
import { startNoise } from "../generate.ts";
import { embedPrompts, loadModels, type LoadedModels } from "../models/load.ts";
import { presets } from "../presets.ts";
import { headCrop, pasteHead, type HeadCrop } from "./crops.ts";

/** Of what renders an avatar: what becomes of its face. */
export interface FaceOptions {
  /** Paints the face anew where a head model is trained. Default true. */
  face?: boolean;
  /** `"perFrame"` paints each face by itself, as the original does. Default `"windows"`. */
  faceTemporal?: "windows" | "perFrame";
  /** How much of the painted face is shown, 0 (nothing is painted) to 1; default what is nearest to the truth on held-out frames, see `faceStrength`. */
  faceStrength?: number;
  facePaste?: PaintOptions["paste"];
}

export interface PaintOptions extends ComputeOptions {
  frames: number;
  /** Finished body frames: asked for in order, and again when they are finished. */
  bodyFrame: (frame: number) => Promise<RgbImage>;
  /** The mesh render of a frame, of any size. */
  condition: (frame: number) => RgbImage | Promise<RgbImage>;
  /** Where the face is, in pixels of the body frames. */
  sight: (frame: number) => FaceSight | Promise<FaceSight>;
  /**
   * `"perFrame"`: each frame by itself, as the original does. `"apart"`: so are their crops, of frames that are no neighbours. Default `"windows"`: all-frame
   * attention in overlapping windows.
   */
  temporal?: "windows" | "perFrame" | "apart";
  /** How much of the painted face is shown, 0..1, see `faceStrength`. Default 1. */
  strength?: number;
  /** Weight of the frames before and behind beside a frame's own, 0..1; with `"windows"` alone. Default 0.5. */
  smooth?: number;
  matchColour?: boolean;
  /** `"reference"`: the whole crop on an eroded and blurred plate, as the original pastes it. Default `"seamless"`. */
  paste?: "seamless" | "reference";
  /** Makes masks from aligned pictures; default: drawn from the landmarks. */
  parse?: (image: RgbImage) => RgbImage;
  steps?: number;
  guidanceScale?: number;
  seed?: number;
  /** Frames before it are neither painted nor given back. */
  firstFrame?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

export interface PaintedFrame {
  index: number;
  image: RgbImage;
  face: FaceState;
}

/** A frame between being asked for and being finished. The picture itself is asked for again: at full size hundreds are under way. */
interface Waiting {
  face: TrackedFace;
  /** What is sampled at this place, painted or not: the frames of a window see each other. Empty where no face is. */
  crop: HeadCrop;
}

const defaultSmooth = 0.5;

const alone = (temporal: PaintOptions["temporal"]): boolean => temporal === "perFrame" || temporal === "apart";

/** Steps of sampling times windows: what `onProgress` counts. */
export function paintingSteps(avatar: Avatar, o: Pick<PaintOptions, "frames" | "temporal" | "steps">): number {
  const { sampling } = presets[avatar.info.preset].head;
  const windows = alone(o.temporal) ? o.frames : overlapWindows(o.frames, sampling.windowSize, sampling.windowOverlap).length;
  return windows * (o.steps ?? sampling.steps);
}

/** Frames in order, the face painted where it is to be seen; memory is bounded by the window. */
export async function* paintHeads(avatar: Avatar, o: PaintOptions): AsyncGenerator<PaintedFrame, void, undefined> {
  const { sampling: s, resolution: size } = presets[avatar.info.preset].head;
  const load = loading(chooseCompute(o, "rendering"));
  const guidanceScale = o.guidanceScale ?? s.guidanceScale;
  const { promptEmbeds, negativePromptEmbeds } = await embedPrompts(avatar, guidanceScale !== 1, "", load, "head");
  const owned: Tensor[] = [promptEmbeds, ...(negativePromptEmbeds ? [negativePromptEmbeds] : [])];
  let models: LoadedModels | undefined;
  const track = new FaceTrack(o.sight, o.frames, o.temporal === "apart" ? { size, smooth: 0, maxGap: 0 } : { size });
  const waiting = new Map<number, Waiting>();
  const first = o.firstFrame ?? 0;
  const nothingKept = blankImage(size, size);
  const empty: HeadCrop = {
    image: blankImage(size, size),
    condition: blankImage(size, size),
    mask: { ...blankImage(size, size), data: new Uint8Array(size * size * 3).fill(255) },
  };
  try {
    models = loadModels(avatar, "head", load);
    const { vae, draft, paints } = models;
    using g = new Generator(o.seed ?? s.seed);
    const sampler = createSampler("ddim", models.scheduler, o.steps ?? s.steps);
    const noise = startNoise(g, sampler, models.scheduler, [vae.config.latent_channels, size / vae.factor]);
    owned.push(noise);
    const [windowSize, windowOverlap] = alone(o.temporal) ? [1, 0] : [s.windowSize, s.windowOverlap];
    const painted = sampleBody(models, {
      frames: o.frames,
      condition: async (i) => {
        const face = await track.at(i);
        const crop = face.matrix ? headCrop(await o.bodyFrame(i), await o.condition(i), face, size, o.parse) : empty;
        waiting.set(i, { face, crop });
        return crop.condition;
      },
      inpaint: (i) => {
        const { image, mask } = waiting.get(i)!.crop;
        return { image, mask: paints === "crop" ? nothingKept : mask };
      },
      draft: draft && ((condition) => draft.draw(condition)),
      promptEmbeds,
      negativePromptEmbeds,
      noise,
      width: size,
      height: size,
      windowSize,
      windowOverlap,
      sampler,
      guidanceScale,
      controlnetConditioningScale: s.controlnetConditioningScale,
      // The original's head nets are the 2D ones, whose mid block sees no residual.
      aliased: false,
      firstFrame: Math.max(0, first - 1),
      signal: o.signal,
      onProgress: o.onProgress,
    });
    // Each crop is shown as a mean with those beside it: aligned as they are, what differs from one to the next is mostly flicker.
    const smooth = alone(o.temporal) ? 0 : (o.smooth ?? defaultSmooth);
    const made = new Map<number, Float32Array>();
    const finished = async (index: number): Promise<PaintedFrame> => {
      for (const i of made.keys()) if (i < index - 1) made.delete(i);
      for (const i of waiting.keys()) if (i < index - 1) waiting.delete(i);
      const { face, crop } = waiting.get(index)!;
      const frame = await o.bodyFrame(index);
      if (!face.painted) return { index, image: frame, face: face.state };
      const beside = [index - 1, index + 1].filter((i) => smooth > 0 && made.has(i) && waiting.get(i)?.face.painted);
      const own = made.get(index)!;
      const mean = own.map((v, k) => beside.reduce((sum, i) => sum + smooth * made.get(i)![k], v) / (1 + smooth * beside.length));
      const picture = fromPlanes(bytesRounded(mean), size, size);
      return { index, image: pasted(frame, crop, picture, face, o), face: face.state };
    };
    for await (const { index, pixels } of painted) {
      made.set(index, pixels);
      if (index > first) yield await finished(index - 1);
    }
    if (o.frames > first) yield await finished(o.frames - 1);
  } finally {
    models?.dispose();
    for (const t of owned) t.dispose();
  }
}

function pasted(frame: RgbImage, crop: HeadCrop, made: RgbImage, face: TrackedFace, o: PaintOptions): RgbImage {
  const { strength = 1 } = o;
  if (o.paste !== "reference")
    return pasteHead(frame, crop, made, face.matrix!, { matchColour: o.matchColour, strength: strength * face.strength });
  // Its feather is for frames of 512.
  const scale = frame.width / 512;
  const whole = pasteBack(frame, made, face.matrix!, { erode: Math.round(40 * scale), taps: 2 * Math.round(20 * scale) + 1 });
  return strength === 1 ? whole : { ...whole, data: whole.data.map((v, i) => Math.round(frame.data[i] + strength * (v - frame.data[i]))) };
}
