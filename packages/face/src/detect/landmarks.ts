/** What the detector finds in a picture. */

/** A point in pixels of the picture it was found in, and how sure the detector is, 0..1. */
export interface Point {
  x: number;
  y: number;
  score: number;
}

export interface FaceLandmarks {
  score: number;
  /** x, y, width, height in pixels. */
  box: readonly [number, number, number, number];
  /** The 51 inner points of the iBUG scheme: brows, nose, eyes, outer and inner lips; the subject's right side first. */
  inner: Point[];
  /** Left and right iris of the subject, or undefined. */
  irises?: [Point, Point];
  /** What the face looks like as numbers, where asked for: compare by `cosine`. */
  descriptor?: Float32Array;
}

export interface HandLandmarks {
  score: number;
  /** Wrist, then thumb, index, middle, ring and little finger, four points each from root to tip. */
  points: Point[];
}

export interface PersonLandmarks {
  face?: FaceLandmarks;
  /** COCO's 17: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right. */
  body: (Point | undefined)[];
  leftHand?: HandLandmarks;
  rightHand?: HandLandmarks;
}

/** Everything found in one picture. */
export interface Detection {
  people: PersonLandmarks[];
}

export const cocoNames = [
  "nose",
  "leftEye",
  "rightEye",
  "leftEar",
  "rightEar",
  "leftShoulder",
  "rightShoulder",
  "leftElbow",
  "rightElbow",
  "leftWrist",
  "rightWrist",
  "leftHip",
  "rightHip",
  "leftKnee",
  "rightKnee",
  "leftAnkle",
  "rightAnkle",
] as const;

/** iBUG's inner 51 points among the 478 of the MediaPipe face mesh. */
export const meshToInner: readonly number[] = [
  70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373,
  380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
];
