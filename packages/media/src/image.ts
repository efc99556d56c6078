/** 8-bit RGB pictures in memory, and PNG, JPEG and WebP files. */
import { rename, rm } from "node:fs/promises";
import sharp from "sharp";
import { MediaError } from "./errors.ts";

sharp.cache(false); // a folder's frames are read once each
sharp.concurrency(1);

/** `data` is `[height, width, 3]`, values 0..255, rows from the top. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

export const blankImage = (width: number, height: number): RgbImage => ({ width, height, data: new Uint8Array(width * height * 3) });

/** Reads a picture as RGB. An alpha channel is dropped, not blended, as PIL's `convert("RGB")` does; grey becomes three equal channels. */
export async function readImage(path: string | Uint8Array): Promise<RgbImage> {
  try {
    const { data, info } = await sharp(path, { failOn: "truncated", limitInputPixels: 1 << 28 })
      .removeAlpha()
      .toColourspace("srgb")
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels === 3)
      return { width: info.width, height: info.height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
    const rgb = new Uint8Array(info.width * info.height * 3);
    for (let i = 0; i < info.width * info.height; i++) rgb.fill(data[i * info.channels], i * 3, i * 3 + 3);
    return { width: info.width, height: info.height, data: rgb };
  } catch (cause) {
    throw new MediaError(
      "IMAGE",
      `${typeof path === "string" ? path : "picture"}: cannot be read as a picture (${(cause as Error).message.split("\n")[0]})`,
      { cause },
    );
  }
}

/** Writes a PNG, atomically. */
export async function writePng(path: string, image: RgbImage): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } })
      .png({ compressionLevel: 3 })
      .toFile(temporary);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new MediaError(
      "WRITE",
      `${path}: cannot be written (${(cause as Error).message.split("\n")[0]}). Is the disk full, or the folder not yours to write?`,
      { cause },
    );
  }
}

/** A PNG file's bytes. */
export const encodePng = (image: RgbImage): Promise<Buffer> =>
  sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } })
    .png({ compressionLevel: 6 })
    .toBuffer();

/** Brightness 0..255 as PIL's `convert("L")`. */
export function toLuma(image: RgbImage): Uint8Array {
  const out = new Uint8Array(image.width * image.height);
  for (let i = 0; i < out.length; i++)
    out[i] = (19595 * image.data[3 * i] + 38470 * image.data[3 * i + 1] + 7471 * image.data[3 * i + 2] + 32768) >> 16;
  return out;
}

/** A part of a picture; what lies outside it repeats the border pixels. */
export function crop(image: RgbImage, x: number, y: number, width: number, height: number): RgbImage {
  const out = blankImage(width, height);
  for (let r = 0; r < height; r++) {
    const sy = Math.min(image.height - 1, Math.max(0, y + r));
    for (let c = 0; c < width; c++) {
      const sx = Math.min(image.width - 1, Math.max(0, x + c));
      const from = (sy * image.width + sx) * 3;
      const to = (r * width + c) * 3;
      out.data[to] = image.data[from];
      out.data[to + 1] = image.data[from + 1];
      out.data[to + 2] = image.data[from + 2];
    }
  }
  return out;
}

/** Copies `source` into `target` with its top left corner at (x, y); what does not fit is left out. */
export function paste(target: RgbImage, source: RgbImage, x: number, y: number): void {
  const [from, to] = [Math.max(0, -x), Math.min(source.width, target.width - x)];
  if (to <= from) return;
  for (let r = Math.max(0, -y); r < source.height && y + r < target.height; r++) {
    target.data.set(
      source.data.subarray((r * source.width + from) * 3, (r * source.width + to) * 3),
      ((y + r) * target.width + x + from) * 3,
    );
  }
}

/** Floats 0..1 to bytes, cut down as the original saves body frames: `⌊x·255⌋`. */
export function bytesTruncated(x: Float32Array): Uint8Array {
  const out = new Uint8Array(x.length);
  for (let i = 0; i < x.length; i++) out[i] = Math.fround(Math.min(1, Math.max(0, x[i])) * 255);
  return out;
}

/** Floats 0..1 to bytes, rounded half to even as numpy's `round`. */
export function bytesRounded(x: Float32Array): Uint8Array {
  const out = new Uint8Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const v = Math.fround(Math.min(1, Math.max(0, x[i])) * 255);
    const low = Math.floor(v);
    const rest = v - low;
    out[i] = rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
  }
  return out;
}
