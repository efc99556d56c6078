/** How near a generated face comes to the true one: inside its box, as a likeness, and in its movement. */
import { cosine, createDetector, faceOutline, type FaceSight } from "@make-your-anchor/face";
import { crop, resizePil, type RgbImage } from "@make-your-anchor/media";
import { fromPlanes } from "../dataset.ts";
import { score, type Planes, type Scores } from "../measure.ts";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface FaceScores extends Scores {
  /** Cosine of the detector's face descriptors of generated and true faces, mean over frames where both were seen; null where none were. */
  identity: number | null;
  /** Mean absolute difference of what changes from frame to frame, generated against true, grey levels 0..255. */
  flicker: number;
}

/** The box around a face's outline, inside the frame; null where there is no face. */
export function faceBox(sight: FaceSight, size: number): Box | null {
  if (!sight.inner || sight.state !== "found") return null;
  const outline = faceOutline(sight.inner);
  const [xs, ys] = [outline.map((p) => p.x), outline.map((p) => p.y)];
  const clamp = (v: number) => Math.min(size, Math.max(0, Math.round(v)));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)].map(clamp);
  return right - left < 4 || bottom - top < 4 ? null : { x: left, y: top, width: right - left, height: bottom - top };
}

const maskOf = (box: Box, size: number): Uint8Array => {
  const mask = new Uint8Array(size * size);
  for (let y = box.y; y < box.y + box.height; y++) mask.fill(1, y * size + box.x, y * size + box.x + box.width);
  return mask;
};

/** Face and surroundings, large enough for the detector. */
const portrait = (frame: RgbImage, box: Box): RgbImage => {
  const side = Math.round(Math.max(box.width, box.height) * 2);
  const [x, y] = [Math.round(box.x + box.width / 2 - side / 2), Math.round(box.y + box.height / 2 - side / 2)];
  return resizePil(crop(frame, x, y, side, side), 256, 256, "bicubic");
};

/** Faces that wait for the detector at once. */
const atOnce = 32;

export type Descriptors = (Float32Array | undefined)[];

/** The detector's descriptors of the faces in several renderings of the same frames; undefined where it saw none. */
export async function describeFaces(
  renderings: readonly (readonly Planes[])[],
  boxes: readonly (Box | null)[],
  size: number,
): Promise<Descriptors[]> {
  const detector = createDetector({ describe: true });
  const describe = async (planes: Planes, box: Box | null) => {
    if (!box) return undefined;
    const { people } = await detector.detect(portrait(fromPlanes(planes, size, size), box), { searchHands: false });
    const faces = people.flatMap((p) => p.face ?? []).sort((a, b) => b.box[3] - a.box[3]);
    return faces[0]?.descriptor;
  };
  try {
    const all: Descriptors[] = renderings.map(() => []);
    for (let from = 0; from < boxes.length; from += atOnce)
      for (const [r, frames] of renderings.entries())
        all[r].push(...(await Promise.all(frames.slice(from, from + atOnce).map((planes, k) => describe(planes, boxes[from + k])))));
    return all;
  } finally {
    await detector.close();
  }
}

/** Scores inside the boxes; frames without one do not count. Null where no frame has one. */
export function scoreFaces(
  made: readonly Planes[],
  truth: readonly Planes[],
  boxes: readonly (Box | null)[],
  size: number,
  descriptors: { made: Descriptors; truth: Descriptors },
): FaceScores | null {
  const seen = boxes.flatMap((box, i) => (box ? [{ box, i }] : []));
  if (seen.length === 0) return null;
  const scores = seen.map(({ box, i }) => score([made[i]], [truth[i]], size, maskOf(box, size)));
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const alike = seen.flatMap(({ i }) => {
    const [a, b] = [descriptors.made[i], descriptors.truth[i]];
    return a && b ? [cosine(a, b)] : [];
  });
  const n = size * size;
  const moved = seen.flatMap(({ box, i }) => {
    if (i === 0) return [];
    let [sum, count] = [0, 0];
    for (let y = box.y; y < box.y + box.height; y++) {
      for (let x = box.x; x < box.x + box.width; x++) {
        for (let c = 0; c < 3; c++) {
          const at = c * n + y * size + x;
          sum += Math.abs(made[i][at] - made[i - 1][at] - (truth[i][at] - truth[i - 1][at]));
          count++;
        }
      }
    }
    return [sum / count];
  });
  return {
    psnr: mean(scores.map((s) => s.psnr)),
    ssim: mean(scores.map((s) => s.ssim)),
    sharpness: mean(scores.map((s) => s.sharpness)),
    identity: alike.length > 0 ? mean(alike) : null,
    flicker: moved.length > 0 ? mean(moved) : 0,
  };
}
