/** An avatar's frames and conditions as tensors. */
import { fromData, type Tensor } from "@make-your-anchor/torch";
import { readImage, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "./avatar.ts";
import { AnchorError } from "./errors.ts";

/** Pictures of one size, bytes in memory: `[3, H, W]` planes each. */
export class PictureSet {
  readonly size: number;
  private readonly planes: Uint8Array[];

  constructor(size: number, planes: Uint8Array[]) {
    this.size = size;
    this.planes = planes;
  }

  static async load(paths: readonly string[], size: number): Promise<PictureSet> {
    const planes: Uint8Array[] = [];
    for (const path of paths) planes.push(await readPlanes(path, size));
    return new PictureSet(size, planes);
  }

  get length(): number {
    return this.planes.length;
  }
  /** All of them, `[3, H, W]` bytes each. */
  get all(): readonly Uint8Array[] {
    return this.planes;
  }
  /** `[3, H, W]` bytes. */
  bytes(i: number): Uint8Array {
    return this.planes[i];
  }
  /** Pictures as `[B, 3, size, size]` bytes on the CPU; divide by 255, or by 127.5 and take off 1. */
  batch(indices: readonly number[]): Tensor {
    const plane = 3 * this.size * this.size;
    const out = new Uint8Array(indices.length * plane);
    indices.forEach((index, b) => out.set(this.planes[index], b * plane));
    return fromData(out, [indices.length, 3, this.size, this.size]);
  }
}

/** A picture of an avatar's. @throws {AnchorError} `FRAME_SIZE` when its sides are others */
export async function readFrame(path: string, size: number): Promise<RgbImage> {
  const image = await readImage(path);
  if (image.width !== size || image.height !== size)
    throw new AnchorError(
      "FRAME_SIZE",
      `${path}: expected ${size}x${size} pixels, got ${image.width}x${image.height}; make the avatar again with "anchor create --force"`,
    );
  return image;
}

/** The same as planes, `[3, H, W]` bytes. */
export const readPlanes = async (path: string, size: number): Promise<Uint8Array> => toPlanes(await readFrame(path, size));

export function toPlanes(image: RgbImage): Uint8Array {
  const n = image.width * image.height;
  const out = new Uint8Array(3 * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) out[c * n + i] = image.data[3 * i + c];
  return out;
}

/** Planes back to a picture. */
export function fromPlanes(planes: Uint8Array, width: number, height: number): RgbImage {
  const n = width * height;
  const data = new Uint8Array(3 * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) data[3 * i + c] = planes[c * n + i];
  return { width, height, data };
}

/**
 * Most pictures of a clip that a model is trained on where they are held in memory, spread over it: more than three minutes' at 30 frames a second.
 * What a longer clip shows beside them is seldom new.
 */
export const mostHeld = 6000;

/** So many numbers below `count`, evenly. */
export const spread = (few: number, count: number): number[] =>
  Array.from({ length: few }, (_, k) => Math.floor(((k + 0.5) * count) / few));

/** Of more frames than are held in memory as many. */
export const framesInMemory = (frames: readonly number[]): readonly number[] =>
  frames.length <= mostHeld ? frames : spread(mostHeld, frames.length).map((i) => frames[i]);

/** Frames of an avatar and their conditions. */
export async function loadFrames(avatar: Avatar, indices: readonly number[]): Promise<{ frames: PictureSet; conditions: PictureSet }> {
  const size = avatar.info.resolution;
  return {
    frames: await PictureSet.load(
      indices.map((i) => avatar.frame(i)),
      size,
    ),
    conditions: await PictureSet.load(
      indices.map((i) => avatar.condition(i)),
      size,
    ),
  };
}
