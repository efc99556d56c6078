/** Where the face is in a frame: projected from the mesh by the known camera, or found by the detector in a ready condition picture. */
import type { Motion } from "@make-your-anchor/body";
import {
  chooseFace,
  faceOutline,
  innerCount,
  insideOutline,
  lastSeenOf,
  type Detector,
  type FaceSight,
  type LastSeen,
  type XY,
} from "@make-your-anchor/face";
import type { RgbImage } from "@make-your-anchor/media";
import type { ConditionRenderer } from "../conditions.ts";

/** First of the 51 face landmarks among a body model's joints: 55 joints and 21 picked vertices come before. */
const firstLandmark = 76;
/** Joints of both hands' fingers, and both arms from elbow to wrist. */
const fingers = { from: 25, to: 55 } as const;
const forearms = [
  [18, 20],
  [19, 21],
] as const;
/** A face turned farther than this from the camera (cosine, 60°) shows a profile, which an aligned crop distorts. */
const leastFacing = 0.5;
/** As many finger joints or places along a forearm before the face cover it. */
const covering = 2;
/** Share of the face's outline that must lie inside the frame. */
const leastInside = 0.7;

const shareInside = (outline: readonly XY[], width: number, height: number): number =>
  outline.filter((p) => p.x >= 0 && p.y >= 0 && p.x < width && p.y < height).length / (outline.length || 1);

/** The mesh's face in pixels of the renderer's pictures: exact, whatever the body model, and known even where no detector would see one. */
export function meshSight(renderer: ConditionRenderer, motion: Motion, frame: number, betas?: Float32Array): FaceSight {
  const joints = renderer.joints(motion, frame, betas);
  const { focal, cx, cy, transl, width, height } = renderer.camera;
  const point = (j: number) => {
    const [x, y, z] = [joints[3 * j] + transl[0], joints[3 * j + 1] + transl[1], joints[3 * j + 2] + transl[2]];
    // Pixel centres at whole numbers, as pictures are warped; the renderer's lie half a pixel on.
    return { x: cx + (focal * x) / z - 0.5, y: cy + (focal * y) / z - 0.5, z, at: [x, y, z] as const };
  };
  const inner = Array.from({ length: innerCount }, (_, i) => point(firstLandmark + i));
  if (inner.some((p) => !(p.z > 0.05) || !Number.isFinite(p.x + p.y))) return { state: "missing", inner: null };
  const outline = faceOutline(inner);
  if (shareInside(outline, width, height) < leastInside) return { state: "outside", inner };
  // The face's plane by its eyes' outer corners and the mouth; its normal leads away from a camera it faces.
  const [right, left, lip] = [inner[19].at, inner[28].at, inner[34].at];
  const [u, v] = [0, 1].map((k) => (k === 0 ? left : lip).map((value, axis) => value - right[axis]));
  const normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  if (normal[2] / (Math.hypot(...normal) || 1) < leastFacing) return { state: "turned", inner };
  const depth = inner.reduce((sum, p) => sum + p.z, 0) / inner.length;
  let before = 0;
  const look = (p: { x: number; y: number; z: number }) => {
    if (p.z < depth && insideOutline(outline, p)) before++;
  };
  for (let j = fingers.from; j < fingers.to; j++) look(point(j));
  for (const [elbow, wrist] of forearms) {
    const [a, b] = [point(elbow), point(wrist)];
    for (const t of [0.4, 0.55, 0.7, 0.85, 1]) look({ x: a.x + t * (b.x - a.x), y: a.y + t * (b.y - a.y), z: a.z + t * (b.z - a.z) });
  }
  return { state: before >= covering ? "covered" : "found", inner };
}

/**
 * The face in pictures that come without a mesh: the first by size, then the one that is nearest to where it was; where several are in view and
 * the detector describes them, also by likeness. Pictures are looked at in their order.
 */
export class DetectedSight {
  private readonly detector: Detector;
  private readonly reference: (() => Promise<ArrayLike<number> | undefined>) | undefined;
  private last: LastSeen | undefined;

  /** @param reference the person's descriptor, asked for when there is a choice */
  constructor(detector: Detector, reference?: () => Promise<ArrayLike<number> | undefined>) {
    this.detector = detector;
    this.reference = reference;
  }
  async look(picture: RgbImage): Promise<FaceSight> {
    const faces = (await this.detector.detect(picture, { searchHands: false })).people.flatMap((p) => p.face ?? []);
    const face = chooseFace(faces, this.last, faces.length > 1 ? await this.reference?.() : undefined);
    if (!face) return { state: "missing", inner: null };
    this.last = lastSeenOf(face);
    const inside = shareInside(faceOutline(face.inner), picture.width, picture.height);
    return { state: inside < leastInside ? "outside" : "found", inner: face.inner };
  }
}
