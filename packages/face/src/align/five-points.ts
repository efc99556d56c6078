/** Between the detector's or the mesh's 51 inner landmarks (iBUG's, without the outline) and the five of an alignment. */
import { applyAffine } from "@make-your-anchor/media";
import { similarity } from "./similarity.ts";
import type { FivePoints } from "./templates.ts";

export interface XY {
  readonly x: number;
  readonly y: number;
}

/** How many inner landmarks there are. */
export const innerCount = 51;

const middle = (points: readonly XY[], from: number, to: number): [number, number] => {
  const part = points.slice(from, to);
  return [part.reduce((s, p) => s + p.x, 0) / part.length, part.reduce((s, p) => s + p.y, 0) / part.length];
};

/**
 * All inner landmarks from five: those of a `reference` face brought onto them by similarity. Good enough for a mask.
 * @returns null where the five coincide
 */
export function innerFromFive(points: FivePoints, reference: readonly XY[]): XY[] | null {
  const matrix = similarity(fivePoints(reference), points);
  return (
    matrix &&
    reference.map((p) => {
      const [x, y] = applyAffine(matrix, p.x, p.y);
      return { x, y };
    })
  );
}

/** Eyes' middles, the tip of the nose, the mouth's corners; iBUG counts from the subject's right, which is left in the picture. */
export const fivePoints = (inner: readonly XY[]): FivePoints => [
  middle(inner, 19, 25),
  middle(inner, 25, 31),
  [inner[13].x, inner[13].y],
  [inner[31].x, inner[31].y],
  [inner[37].x, inner[37].y],
];
