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

/** Frame `i` of a rendering. */
export type FrameOf = (i: number) => Planes | Promise<Planes>;

/**
 * How alike faces are to the true ones: of each rendering a cosine of the detector's face descriptors for each box; null where there is no box, or the
 * detector saw a face in one of the two alone.
 */
export async function likenesses(
  truth: FrameOf,
  renderings: readonly FrameOf[],
  boxes: readonly (Box | null)[],
  size: number,
): Promise<(number | null)[][]> {
  const detector = createDetector({ describe: true });
  const describe = async (frame: FrameOf, i: number) => {
    const box = boxes[i];
    if (!box) return undefined;
    const { people } = await detector.detect(portrait(fromPlanes(await frame(i), size, size), box), { searchHands: false });
    const faces = people.flatMap((p) => p.face ?? []).sort((a, b) => b.box[3] - a.box[3]);
    return faces[0]?.descriptor;
  };
  try {
    const all: (number | null)[][] = renderings.map(() => []);
    for (let from = 0; from < boxes.length; from += atOnce) {
      const few = Array.from({ length: Math.min(atOnce, boxes.length - from) }, (_, k) => from + k);
      const described = (frame: FrameOf) => Promise.all(few.map((i) => describe(frame, i)));
      const theirs = await described(truth);
      for (const [r, rendering] of renderings.entries()) {
        const mine = await described(rendering);
        all[r].push(...mine.map((a, k) => (a && theirs[k] ? cosine(a, theirs[k]) : null)));
      }
    }
    return all;
  } finally {
    await detector.close();
  }
}

/** Scores inside the faces' boxes, of frames that come one by one, in order. */
export class FaceScoring {
  private readonly size: number;
  private readonly each: Scores[] = [];
  private readonly alike: number[] = [];
  private readonly moved: number[] = [];
  private before: { made: Planes; truth: Planes } | undefined;

  /** @param size side of the frames, pixels */
  constructor(size: number) {
    this.size = size;
  }

  /** A frame without a box does not count, but what changes to the next one does. */
  add(made: Planes, truth: Planes, box: Box | null, likeness: number | null): void {
    const { before } = this;
    this.before = { made, truth };
    if (!box) return;
    this.each.push(score([made], [truth], this.size, maskOf(box, this.size)));
    if (likeness !== null) this.alike.push(likeness);
    if (!before) return;
    const n = this.size * this.size;
    let [sum, count] = [0, 0];
    for (let y = box.y; y < box.y + box.height; y++) {
      for (let x = box.x; x < box.x + box.width; x++) {
        for (let c = 0; c < 3; c++) {
          const at = c * n + y * this.size + x;
          sum += Math.abs(made[at] - before.made[at] - (truth[at] - before.truth[at]));
          count++;
        }
      }
    }
    this.moved.push(sum / count);
  }

  /** Null where no frame had a box. */
  scores(): FaceScores | null {
    if (this.each.length === 0) return null;
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    return {
      psnr: mean(this.each.map((s) => s.psnr)),
      ssim: mean(this.each.map((s) => s.ssim)),
      sharpness: mean(this.each.map((s) => s.sharpness)),
      identity: this.alike.length > 0 ? mean(this.alike) : null,
      flicker: this.moved.length > 0 ? mean(this.moved) : 0,
    };
  }
}
