/** What the head model is shown of a frame, and how its answer comes back into it. */
import { faceOutline, outlineMask, type TrackedFace } from "@make-your-anchor/face";
import {
  applyAffine,
  blankImage,
  gaussianBlur,
  invertAffine,
  warpAffine,
  warpPlanesCubic,
  type Affine,
  type RgbImage,
} from "@make-your-anchor/media";
import { fromPlanes, toPlanes } from "../dataset.ts";

/** `matrix` of a picture of `from` pixels for the same picture at `to` pixels; pixel centres at whole numbers. */
export function atSize([a, b, tx, c, d, ty]: Affine, from: number, to: number): Affine {
  const s = from / to;
  const shift = 0.5 * s - 0.5;
  return [a * s, b * s, tx + (a + b) * shift, c * s, d * s, ty + (c + d) * shift];
}

export interface HeadCrop {
  /** The face in its surroundings, aligned. */
  image: RgbImage;
  /** The same part of the mesh render. */
  condition: RgbImage;
  /** Black where the face is to be painted, white where the picture is kept. */
  mask: RgbImage;
}

const grey = (values: ArrayLike<number>, width: number, height: number): RgbImage => {
  const out = blankImage(width, height);
  for (let i = 0; i < width * height; i++) out.data.fill(values[i], 3 * i, 3 * i + 3);
  return out;
};

/**
 * @param condition the mesh render of the frame, of any size
 * @param parse makes the mask from the aligned picture; left out, it is drawn from the landmarks
 */
export function headCrop(
  frame: RgbImage,
  condition: RgbImage,
  face: TrackedFace,
  size: number,
  parse?: (image: RgbImage) => RgbImage,
): HeadCrop {
  const matrix = face.matrix!;
  // Twice bilinear, to the crop and back, would cost a third of a face's detail.
  const planes = Uint8ClampedArray.from(warpPlanesCubic(toPlanes(frame), frame, matrix, size, size));
  const image = fromPlanes(new Uint8Array(planes.buffer), size, size);
  const outline = faceOutline(face.inner!).map(({ x, y }) => {
    const [u, v] = applyAffine(matrix, x, y);
    return { x: u, y: v };
  });
  return {
    image,
    condition: warpAffine(condition, atSize(matrix, frame.width, condition.width), size, size),
    mask: parse ? parse(image) : grey(outlineMask(outline, { width: size, height: size }), size, size),
  };
}

export interface PasteHeadOptions {
  /** Brings the painted crop's colours to those of its surroundings. Default true. */
  matchColour?: boolean;
  /** 0..1: how much of the painted face is shown. */
  strength?: number;
}

/** Means of the channels where `weight` is above a half. */
function meansWhere(image: RgbImage, weight: Float32Array): number[] | null {
  const sum = [0, 0, 0];
  let n = 0;
  for (let i = 0; i < weight.length; i++) {
    if (weight[i] < 0.5) continue;
    for (let c = 0; c < 3; c++) sum[c] += image.data[3 * i + c];
    n++;
  }
  return n < 16 ? null : sum.map((s) => s / n);
}

/**
 * The painted face in its frame, seamlessly: what is added to the frame is the difference that painting made to the crop, so a crop that
 * comes back as it went leaves the frame as it was, to the bit; it fades out over the mask's edge, inside the crop.
 * @param matrix from the frame to the crop
 */
export function pasteHead(frame: RgbImage, crop: HeadCrop, painted: RgbImage, matrix: Affine, o: PasteHeadOptions = {}): RgbImage {
  const { matchColour = true, strength = 1 } = o;
  const { width: size } = crop.image;
  const n = size * size;
  const area = { width: size, height: size };
  const keptPart = Float32Array.from({ length: n }, (_, i) => (crop.mask.data[3 * i] >= 128 ? 1 : 0));
  const taps = 2 * Math.max(1, Math.round(size / 24)) + 1;
  // Blurred and stretched so that it is 1 over the face and falls to 0 around it, never reaching the crop's border.
  const soft = gaussianBlur(
    keptPart.map((v) => 1 - v),
    area,
    taps,
    taps / 4,
  );
  const margin = Math.max(2, Math.round(size / 32));
  const weight = soft.map((v, i) => {
    const [x, y] = [i % size, Math.floor(i / size)];
    const edge = Math.min(x, y, size - 1 - x, size - 1 - y);
    return Math.min(1, v * 1.5) * Math.min(1, Math.max(0, edge - 1) / margin) * strength;
  });
  let shift = [0, 0, 0];
  if (matchColour) {
    // Where the picture was to be kept, what the model gave back for it must have the same colours.
    const [before, after] = [meansWhere(crop.image, keptPart), meansWhere(painted, keptPart)];
    if (before && after) shift = before.map((v, c) => v - after[c]);
  }
  const planes = new Float32Array(3 * n);
  for (let i = 0; i < n; i++) {
    if (weight[i] === 0) continue;
    for (let c = 0; c < 3; c++) planes[c * n + i] = weight[i] * (painted.data[3 * i + c] + shift[c] - crop.image.data[3 * i + c]);
  }
  const { width, height } = frame;
  const difference = warpPlanesCubic(planes, area, invertAffine(matrix), width, height);
  const count = width * height;
  const data = frame.data.slice();
  for (let i = 0; i < count; i++)
    for (let c = 0; c < 3; c++) data[3 * i + c] = Math.min(255, Math.max(0, Math.round(frame.data[3 * i + c] + difference[c * count + i])));
  return { width, height, data };
}
