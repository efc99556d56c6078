/** What a detector that never errs would see of a body model's joints. */
import type { FrameLandmarks, Landmark } from "@make-your-anchor/body";
import { modelPoints, type ModelPoint } from "../packages/body/src/fit/landmarks.ts";

/** @param at where a point of the model is seen; `index` counts the model's points */
export function landmarksOf(at: (point: ModelPoint, index: number) => Landmark): FrameLandmarks {
  const points = modelPoints.map(at);
  const of = (group: string) => points.filter((_, i) => modelPoints[i].group === group);
  const hands = of("hands");
  const body = Array.from({ length: 17 }, (_, coco) => {
    const only = { body: Array.from({ length: 17 }, (_, k) => (k === coco ? { x: 0, y: 0, score: 1 } : undefined)) };
    return points[modelPoints.findIndex((p) => p.group === "body" && p.pick(only))];
  });
  return { body, face: of("face"), leftHand: hands.slice(0, 21), rightHand: hands.slice(21) };
}
