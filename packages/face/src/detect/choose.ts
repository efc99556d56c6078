/** Which of several faces is the one that is followed. */
import type { FaceLandmarks } from "./landmarks.ts";

/** Where the face was last, pixels. */
export interface LastSeen {
  x: number;
  y: number;
  /** Height of its box. */
  size: number;
}

export const lastSeenOf = (face: FaceLandmarks): LastSeen => ({
  x: face.box[0] + face.box[2] / 2,
  y: face.box[1] + face.box[3] / 2,
  size: face.box[3],
});

/** Cosine of the angle between two descriptors, −1..1. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / (Math.sqrt(aa * bb) || 1);
}

/** A face that jumps farther than this many of its own heights between looks is another one. */
const farthest = 1.5;

/**
 * The face to follow: nearest to where it was and of its size, and where descriptors are given, alike in identity.
 * @param reference descriptor of the person, where known
 * @returns undefined where none is near enough: another's face is left alone
 */
export function chooseFace(
  faces: readonly FaceLandmarks[],
  last: LastSeen | undefined,
  reference?: ArrayLike<number>,
): FaceLandmarks | undefined {
  const rated = faces.map((face) => {
    const here = lastSeenOf(face);
    const identity = reference && face.descriptor ? cosine(face.descriptor, reference) : undefined;
    if (!last) return { face, cost: identity === undefined ? -here.size : -identity * 1000 - here.size * 1e-3 };
    const moved = Math.hypot(here.x - last.x, here.y - last.y) / last.size;
    if (moved > farthest) return { face, cost: Number.POSITIVE_INFINITY };
    return { face, cost: moved + Math.abs(Math.log(here.size / last.size)) + (identity === undefined ? 0 : 2 * (1 - identity)) };
  });
  const best = rated.toSorted((a, b) => a.cost - b.cost)[0];
  return best && Number.isFinite(best.cost) ? best.face : undefined;
}
