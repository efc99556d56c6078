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
 * Likeness (cosine of the default detector's descriptors) that a face must have where its place says nothing. One speaker's frames: 0.85 in the
 * middle, 0.36 at the fifth percentile (turned and blurred ones); fifteen other people: 0.51 at most.
 */
export const alike = 0.6;
/** A head moves less than this many of its own heights from one frame to the next; farther is a cut, or somebody else. */
export const smoothly = 0.3;

/** What is known of the person who is followed from frame to frame. */
export interface Followed {
  /** Where the face was when it was last seen. */
  last: LastSeen;
  /** Looks since then. */
  lost: number;
}

/**
 * The followed person's face among a frame's faces. One that was there a moment ago is followed by place, likeness decides between two; one that
 * was lost, or would have jumped, is taken only where it is alike. Without descriptors a lost face must come back near where it left.
 * @param reference descriptor of the person, where known
 * @returns undefined where none of the faces is theirs: another's is left alone
 */
export function followFace(
  faces: readonly FaceLandmarks[],
  { last, lost }: Followed,
  reference?: ArrayLike<number>,
): FaceLandmarks | undefined {
  const likeness = (f: FaceLandmarks) => (reference && f.descriptor ? cosine(f.descriptor, reference) : undefined);
  const near = chooseFace(faces, last, reference);
  if (near) {
    const how = likeness(near);
    const here = lastSeenOf(near);
    const went = Math.hypot(here.x - last.x, here.y - last.y) / last.size;
    if (how === undefined || how >= alike || (lost === 0 && went < smoothly)) return near;
  }
  return faces.filter((f) => (likeness(f) ?? -1) >= alike).toSorted((a, b) => likeness(b)! - likeness(a)!)[0];
}

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
