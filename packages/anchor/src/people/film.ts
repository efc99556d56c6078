/** Frames of a made-up person as training wants them. */
import { FaceTrack } from "@make-your-anchor/face";
import { toLuma } from "@make-your-anchor/media";
import { toPlanes } from "../dataset.ts";
import { ConditionRenderer } from "../conditions.ts";
import { headCrop } from "../head/crops.ts";
import { meshSight } from "../head/sight.ts";
import { Person } from "./person.ts";

export interface PeopleWork {
  /** Side of the frames, pixels. */
  size: number;
  /** Frames of a person. */
  frames: number;
  /** Pictures alone; or with their mesh renders and the same of their heads. */
  what: "pictures" | "all";
  /** Side of the heads' crops, pixels. */
  headSize: number;
  /** Side of the mesh render that a head's condition is cut from. */
  conditionSize: number;
}

/** All of one person; frames lie more than a second apart. */
export interface FilmedPerson {
  /** `[frames, 3, size, size]` bytes. */
  pictures: Uint8Array;
  /** The same; empty for pictures alone. */
  conditions: Uint8Array;
  /** `[1, 3, size, size]`: who it is; left out, the first picture says so. */
  reference?: Uint8Array;
  /** Of those frames that show the face; as many, or fewer. */
  heads: {
    count: number;
    /** `[count, 3, headSize, headSize]` bytes. */
    pictures: Uint8Array;
    conditions: Uint8Array;
    /** `[count, headSize, headSize]`, 1 where the picture is kept. */
    masks: Uint8Array;
    reference?: Uint8Array;
  };
}

/** Frames a second of a training performance: neighbours must differ. */
const fps = 0.7;

/** The person of a seed. */
export async function filmPerson(seed: number, w: PeopleWork): Promise<FilmedPerson> {
  using person = new Person(seed, w.size, w.frames, fps);
  const [pictures, conditions, headPictures, headConditions, masks]: Uint8Array[][] = [[], [], [], [], []];
  const renderer = w.what === "all" ? new ConditionRenderer("mannequin", person.camera, w.size) : undefined;
  try {
    for (let f = 0; f < w.frames; f++) {
      const picture = person.picture(f);
      pictures.push(toPlanes(picture));
      if (!renderer) continue;
      conditions.push(toPlanes(person.condition(f)));
      // Each frame stands alone: they lie too far apart to be smoothed over.
      const face = await new FaceTrack(() => meshSight(renderer, person.motion, f), 1, { size: w.headSize }).at(0);
      if (!face.painted || !face.matrix) continue; // turned away, hidden, or outside
      const crop = headCrop(picture, person.condition(f, w.conditionSize), face, w.headSize);
      headPictures.push(toPlanes(crop.image));
      headConditions.push(toPlanes(crop.condition));
      masks.push(Uint8Array.from(toLuma(crop.mask), (v) => (v >= 128 ? 1 : 0)));
    }
  } finally {
    renderer?.dispose();
  }
  return {
    pictures: join(pictures),
    conditions: join(conditions),
    heads: {
      count: headPictures.length,
      pictures: join(headPictures),
      conditions: join(headConditions),
      masks: join(masks),
    },
  };
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
