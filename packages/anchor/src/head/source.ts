/** Where a head stage finds its faces and conditions: in a motion's mesh, or in ready condition pictures. */
import type { Motion } from "@make-your-anchor/body";
import { createDetector, type FaceSight } from "@make-your-anchor/face";
import { resizePil, type RgbImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { ConditionRenderer } from "../conditions.ts";
import { presets } from "../presets.ts";
import { DetectedSight, meshSight } from "./sight.ts";

export interface HeadSource {
  condition: (frame: number) => RgbImage | Promise<RgbImage>;
  sight: (frame: number) => FaceSight | Promise<FaceSight>;
  close: () => Promise<void>;
}

/** By the mesh and the camera that draws it. `motion` carries the camera; `betas` replace its shape. */
export function motionHeads(avatar: Avatar, motion: Motion, betas?: Float32Array): HeadSource {
  const { bodyModel, preset, resolution } = avatar.info;
  const small = new ConditionRenderer(bodyModel, motion.camera!, resolution);
  const large = new ConditionRenderer(bodyModel, motion.camera!, presets[preset].head.conditionSize);
  return {
    condition: (i) => large.render(motion, i, { betas }),
    sight: (i) => meshSight(small, motion, i, betas),
    close: async () => {
      small.dispose();
      large.dispose();
    },
  };
}

/** Side of the pictures the detector looks at. */
const lookedAt = 512;

/**
 * By the default detector, as the original does: in the condition picture, and where it finds none there, in the body frame.
 * @param bodyFrame finished frames, in order
 */
export function pictureHeads(
  avatar: Avatar,
  condition: (frame: number) => Promise<RgbImage>,
  bodyFrame: (frame: number) => Promise<RgbImage>,
): HeadSource {
  const detector = createDetector({ workers: 1 });
  const [inCondition, inFrame] = [new DetectedSight(detector), new DetectedSight(detector)];
  const { resolution } = avatar.info;
  const look = async (by: DetectedSight, picture: RgbImage): Promise<FaceSight> => {
    const seen = await by.look(resizePil(picture, lookedAt, lookedAt, "bicubic"));
    const scale = resolution / lookedAt;
    return { ...seen, inner: seen.inner && seen.inner.map((p) => ({ x: (p.x + 0.5) * scale - 0.5, y: (p.y + 0.5) * scale - 0.5 })) };
  };
  return {
    condition,
    sight: async (i) => {
      const seen = await look(inCondition, await condition(i));
      return seen.inner ? seen : look(inFrame, await bodyFrame(i));
    },
    close: () => detector.close(),
  };
}
