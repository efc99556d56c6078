/** How a clip's camera saw what lies behind the person. */
import { applyAffine, type Affine } from "@make-your-anchor/media";

/** From places of the background to those of a frame, pixels; undefined: they are the same. */
export type View = Affine;

/** A view as a motion keeps it: rows of an affine map on places in shares of the picture's side. */
export const toShares = ([a, b, tx, c, d, ty]: View, size: number): View => [
  a,
  b,
  (tx + (1 - a - b) / 2) / size,
  c,
  d,
  (ty + (1 - c - d) / 2) / size,
];
/** The view of a frame of a motion, in pixels of a picture of that side; undefined where the camera is not known to have moved. */
export function viewOf({ views }: { views?: Float32Array }, frame: number, size: number): View | undefined {
  if (!views) return undefined;
  const [a, b, tx, c, d, ty] = views.subarray(6 * frame, 6 * frame + 6);
  return [a, b, tx * size - (1 - a - b) / 2, c, d, ty * size - (1 - c - d) / 2];
}

/** How far a view moves the picture's corners, pixels; the farthest of them. */
export function reachOf(view: View, size: number): number {
  const e = size - 1;
  return Math.max(...[0, e].flatMap((x) => [0, e].map((y) => Math.hypot(...applyAffine(view, x, y).map((v, k) => v - (k ? y : x))))));
}
