/** Where a head stage finds its faces and conditions: in a motion's mesh, or in ready condition pictures. */
import { emptyMotion, type Motion } from "@make-your-anchor/body";
import { chooseFace, createDetector, innerFromFive, ScrfdDetector, type Detector, type FaceSight, type XY } from "@make-your-anchor/face";
import { readImage, resizePil, type RgbImage } from "@make-your-anchor/media";
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
  const { bodyModel, conditionStyle, preset, resolution } = avatar.info;
  const small = new ConditionRenderer(bodyModel, motion.camera!, resolution);
  const large = new ConditionRenderer(bodyModel, motion.camera!, presets[preset].head.conditionSize, conditionStyle);
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

/** A face looking at the camera: the landmarks that five points of a user's detector are filled up with. */
function frontalFace(): readonly XY[] {
  const motion = emptyMotion(1, 25);
  motion.globalOrient.set([Math.PI, 0, 0]);
  const renderer = new ConditionRenderer(
    "mannequin",
    { width: 256, height: 256, focal: 4000, cx: 128, cy: 128, transl: [0, 0.75, 12.5] },
    256,
  );
  try {
    return meshSight(renderer, motion, 0).inner!;
  } finally {
    renderer.dispose();
  }
}

/** SCRFD, from the file the user brings, as a detector like the default one: the best face, its five points filled up. */
export async function scrfdAsDetector(path: string): Promise<Detector> {
  const scrfd = await ScrfdDetector.open(path);
  const reference = frontalFace();
  return {
    detect: async (image) => {
      const faces = await scrfd.detect(image);
      return {
        people: faces.flatMap(({ box: [x1, y1, x2, y2], score, points }) => {
          const inner = innerFromFive(points, reference);
          const face = inner && { score, box: [x1, y1, x2 - x1, y2 - y1] as const, inner: inner.map((p) => ({ ...p, score })) };
          return face ? [{ face, body: [] }] : [];
        }),
      };
    },
    close: () => scrfd.close(),
  };
}

/**
 * By the default detector, as the original does: in the condition picture, and where it finds none there, in the body frame.
 * @param bodyFrame finished frames, in order
 */
export function pictureHeads(
  avatar: Avatar,
  condition: (frame: number) => Promise<RgbImage>,
  bodyFrame: (frame: number) => Promise<RgbImage>,
  detector: Detector = createDetector({ workers: 1, describe: true }),
): HeadSource {
  const large = (picture: RgbImage) => resizePil(picture, lookedAt, lookedAt, "bicubic");
  let described: Promise<Float32Array | undefined> | undefined;
  const reference = () =>
    (described ??= readImage(avatar.referencePath)
      .then((frame) => detector.detect(large(frame), { searchHands: false }))
      .then(
        ({ people }) =>
          chooseFace(
            people.flatMap((p) => p.face ?? []),
            undefined,
          )?.descriptor,
      ));
  // A mesh looks like nobody: there a face is followed by its place alone.
  const [inCondition, inFrame] = [new DetectedSight(detector), new DetectedSight(detector, reference)];
  const { resolution } = avatar.info;
  const look = async (by: DetectedSight, picture: RgbImage): Promise<FaceSight> => {
    const seen = await by.look(large(picture));
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
