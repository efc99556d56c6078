/** Between the detector's or the mesh's 51 inner landmarks (iBUG's, without the outline) and the five of an alignment. */
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

/** Eyes' middles, the tip of the nose, the mouth's corners; iBUG counts from the subject's right, which is left in the picture. */
export const fivePoints = (inner: readonly XY[]): FivePoints => [
  middle(inner, 19, 25),
  middle(inner, 25, 31),
  [inner[13].x, inner[13].y],
  [inner[31].x, inner[31].y],
  [inner[37].x, inner[37].y],
];
