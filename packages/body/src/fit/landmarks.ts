/** The fit's input: 2D points a frame, and which point of the body model each of them is. */

/** Pixels; `score` 0..1, 0 for a point that was not found. */
export interface Landmark {
  x: number;
  y: number;
  score: number;
}

export interface FrameLandmarks {
  /** COCO's 17 points; missing ones undefined. */
  body: readonly (Landmark | undefined)[];
  /** 51 inner points of the iBUG scheme. */
  face?: readonly Landmark[];
  /** The subject's left and right iris. */
  irises?: readonly [Landmark, Landmark];
  /** Wrist, thumb, index, middle, ring, little finger; four points each from root to tip. */
  leftHand?: readonly Landmark[];
  rightHand?: readonly Landmark[];
}

/** Points of a lower score are not counted. */
export const surely = 0.2;

export type PointGroup = "body" | "hands" | "face" | "eyes";

export interface ModelPoint {
  /** Index into the body model's output joints. */
  joint: number;
  group: PointGroup;
  weight: number;
  pick: (f: FrameLandmarks) => Landmark | undefined;
}

// Nose and eyes of the body detector are left to the face's own points; what lies below a desk is guessed by detectors.
const bodyPoints: readonly (readonly [number, number, number])[] = [
  [3, 59, 0.3],
  [4, 58, 0.3], // ears
  [5, 16, 1],
  [6, 17, 1], // shoulders
  // Elbows: four fingers' worth of points pull at the hand below, and would fold the arm.
  [7, 18, 2],
  [8, 19, 2],
  [9, 20, 0.35],
  [10, 21, 0.35], // wrists: rough
  [11, 1, 0.15],
  [12, 2, 0.15], // hips
];
const hand = (wrist: number, thumb: number, first: number, tips: number) => [
  wrist,
  ...[thumb, thumb + 1, thumb + 2, tips],
  ...[first, first + 1, first + 2, tips + 1],
  ...[first + 3, first + 4, first + 5, tips + 2],
  ...[first + 9, first + 10, first + 11, tips + 3],
  ...[first + 6, first + 7, first + 8, tips + 4],
];
const leftHand = hand(20, 37, 25, 66);
const rightHand = hand(21, 52, 40, 71);
/** Where a wrist ends, detectors and the mesh do not quite agree: it counts little. */
const handWeight = (i: number) => (i === 0 ? 0.2 : 1);

export const modelPoints: readonly ModelPoint[] = [
  ...bodyPoints.map(([coco, joint, weight]): ModelPoint => ({ joint, group: "body", weight, pick: (f) => f.body[coco] })),
  ...leftHand.map((joint, i): ModelPoint => ({ joint, group: "hands", weight: handWeight(i), pick: (f) => f.leftHand?.[i] })),
  ...rightHand.map((joint, i): ModelPoint => ({ joint, group: "hands", weight: handWeight(i), pick: (f) => f.rightHand?.[i] })),
  ...Array.from({ length: 51 }, (_, i): ModelPoint => ({
    joint: 76 + i,
    group: "face",
    weight: i < 10 ? 0.5 : 1,
    pick: (f) => f.face?.[i],
  })),
  { joint: 57, group: "eyes", weight: 0.5, pick: (f) => f.irises?.[0] },
  { joint: 56, group: "eyes", weight: 0.5, pick: (f) => f.irises?.[1] },
];
