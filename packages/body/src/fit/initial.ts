/** Where a fit starts from. */
import { BodyError } from "../errors.ts";
import type { FrameLandmarks } from "./landmarks.ts";

/** A place of the body that two points tell: their middle and distance, pixels; how far apart they are, and how high above the origin, metres. */
interface Anchor {
  x: number;
  y: number;
  width: number;
  metres: number;
  /** A smaller width tells nothing of the size. */
  least: number;
  up: number;
}

function anchorOf(f: FrameLandmarks): Anchor | undefined {
  const between = (a: { x: number; y: number }, b: { x: number; y: number }) => ({
    x: (a.x + b.x) / 2,
    y: (a.y + b.y) / 2,
    width: Math.hypot(a.x - b.x, a.y - b.y),
  });
  const [l, r] = [f.body[5], f.body[6]]; // shoulders
  if (l && r && l.score > 0.3 && r.score > 0.3) return { ...between(l, r), metres: 0.36, least: 8, up: 0.115 };
  if (f.face) return { ...between(f.face[19], f.face[28]), metres: 0.09, least: 3, up: 0.333 }; // outer corners of the eyes
  return undefined;
}

/** Whether any of the frames shows where the person is: without, there is nothing to fit. */
export const anyoneSeen = (frames: readonly FrameLandmarks[]): boolean => frames.some(anchorOf);

/**
 * A first place for every frame, from the width between shoulders or eyes; gaps take their neighbours'.
 * @param unit pixels of the fit in one of the picture's
 * @returns `[F, 3]` metres
 * @throws {BodyError} `FIT` where nobody is seen
 */
export function initialPlace(frames: readonly FrameLandmarks[], unit: number, focal: number, cx: number, cy: number): Float32Array {
  const anchors = frames.map(anchorOf);
  if (!anchors.some(Boolean)) throw new BodyError("FIT", "nothing to fit: no shoulders and no face was found in any frame");
  const sizes = anchors.flatMap((a) => (a && a.width * unit > a.least ? [(a.width * unit) / a.metres] : [])); // pixels a metre
  sizes.sort((a, b) => a - b);
  const perMetre = sizes[Math.floor(sizes.length / 2)] ?? 300;
  const z = focal / perMetre;
  const transl = new Float32Array(frames.length * 3);
  let last = anchors.find(Boolean)!;
  anchors.forEach((a, f) => {
    last = a ?? last;
    // The body turns over about its pelvis, 0.33 m below the origin: its height h comes to lie at −0.33 − (h + 0.33).
    const y = -0.66 - last.up;
    transl.set([((last.x * unit - cx) * z) / focal, ((last.y * unit - cy) * z) / focal - y, z], 3 * f);
  });
  return transl;
}
