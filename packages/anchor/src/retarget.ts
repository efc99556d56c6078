/** Putting another body's motion on an avatar: its turns and bends on the avatar's shape, at the avatar's place before the camera. */
import { type Motion } from "@make-your-anchor/body";
import type { ConditionRenderer } from "./conditions.ts";

/** Joints looked at to find where a body is. */
const neck = 12;
const looks = 24;

function meanNeck(renderer: ConditionRenderer, m: Motion, betas: Float32Array): [number, number, number] {
  const mean: [number, number, number] = [0, 0, 0];
  const count = Math.min(looks, m.frames);
  for (let i = 0; i < count; i++) {
    const joints = renderer.joints(m, Math.floor((i * m.frames) / count), betas);
    for (let k = 0; k < 3; k++) mean[k] += joints[3 * neck + k] / count;
  }
  return mean;
}

/**
 * `motion` moved so that its neck is on average where the avatar's own is; shape and camera are the avatar's. Rotations stay as
 * they are; movement over the ground stays, about that place.
 */
export function retarget(renderer: ConditionRenderer, motion: Motion, own: Motion): Motion {
  const from = meanNeck(renderer, motion, own.betas);
  const to = meanNeck(renderer, own, own.betas);
  const transl = motion.transl.slice();
  for (let i = 0; i < transl.length; i++) transl[i] += to[i % 3] - from[i % 3];
  return { ...motion, transl, camera: own.camera };
}
