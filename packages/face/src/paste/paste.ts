/** Putting an aligned face back into its frame. */
import { erodeBox, gaussianBlur, invertAffine, warpPlanes, type Affine, type RgbImage } from "@make-your-anchor/media";

/** The original's feather: how far the plate's edge is drawn in, and how it is softened (OpenCV's σ for 41 taps). */
const reference = { erode: 40, taps: 41 } as const;
const openCvSigma = (taps: number) => 0.3 * ((taps - 1) * 0.5 - 1) + 0.8;

export interface PasteOptions {
  /** Side of the box the plate is eroded with, pixels of the frame. Default 40, the original's for frames of 512. */
  erode?: number;
  /** Taps of the Gaussian that softens it, odd. Default 41. */
  taps?: number;
}

/** Where a crop of `size` lies in the frame: blend weight 0..1, `[height, width]`, feathered inwards; frame edges are not feathered. */
export function plateMask(
  matrix: Affine,
  crop: { width: number; height: number },
  frame: { width: number; height: number },
  { erode = reference.erode, taps = reference.taps }: PasteOptions = {},
): Float32Array {
  const plate = warpPlanes(new Float32Array(crop.width * crop.height).fill(255), crop, invertAffine(matrix), frame.width, frame.height);
  for (let i = 0; i < plate.length; i++) plate[i] = plate[i] > 20 ? 255 : plate[i];
  const eroded = erode > 1 ? erodeBox(plate, frame, erode) : plate;
  const soft = taps > 1 ? gaussianBlur(eroded, frame, taps, openCvSigma(taps)) : eroded;
  return soft.map((v) => v / 255);
}

/** `face` warped back over `frame` by a blend weight for each pixel of the frame, cut down to 8 bits as the original does. */
export function blendFace(frame: RgbImage, face: RgbImage, matrix: Affine, weight: Float32Array): RgbImage {
  const { width, height } = frame;
  const planes = new Float32Array(3 * face.width * face.height);
  const n = face.width * face.height;
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) planes[c * n + i] = face.data[3 * i + c] / 255;
  const warped = warpPlanes(planes, face, invertAffine(matrix), width, height);
  const out = frame.data.slice();
  const count = width * height;
  for (let i = 0; i < count; i++) {
    const m = weight[i];
    if (m === 0) continue;
    for (let c = 0; c < 3; c++) {
      const v = Math.fround(Math.fround(m * Math.fround(warped[c * count + i] * 255)) + Math.fround((1 - m) * frame.data[3 * i + c]));
      out[3 * i + c] = Math.min(255, Math.max(0, Math.trunc(v)));
    }
  }
  return { width, height, data: out };
}

/** The original's paste-back of a whole crop (`reverse2wholeimage` without its mask). `matrix` leads from the frame to the crop. */
export const pasteBack = (frame: RgbImage, face: RgbImage, matrix: Affine, options: PasteOptions = {}): RgbImage =>
  blendFace(frame, face, matrix, plateMask(matrix, face, frame, options));
