/** Frames of a made-up person as training wants them. */
import { FaceTrack } from "@make-your-anchor/face";
import { toLuma } from "@make-your-anchor/media";
import { toPlanes } from "../dataset.ts";
import { ConditionRenderer } from "../conditions.ts";
import { draftPictures } from "../draft/draft-clip.ts";
import { headCrop } from "../head/crops.ts";
import { meshSight } from "../head/sight.ts";
import { Person } from "./person.ts";
import { Dice } from "./random.ts";

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
  /** What the frames would be painted from, likewise; each from what some of the others show. */
  drafts: Uint8Array;
  /** `[1, 3, size, size]`: who it is; left out, the first picture says so. */
  reference?: Uint8Array;
  /** Of those frames that show the face; as many, or fewer. */
  heads: {
    count: number;
    /** `[count, 3, headSize, headSize]` bytes. */
    pictures: Uint8Array;
    conditions: Uint8Array;
    drafts: Uint8Array;
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
    pictures: joined(pictures),
    conditions: joined(conditions),
    drafts: await draftsOf(pictures, conditions, w.size, seed),
    heads: {
      count: headPictures.length,
      pictures: joined(headPictures),
      conditions: joined(headConditions),
      drafts: await draftsOf(headPictures, headConditions, w.headSize, seed),
      masks: joined(masks),
    },
  };
}

/** By which fits of real people miss: the deviation, as a share of the picture's side. */
const astray = 0.007;

/**
 * Drafts of a person's frames, planes one behind the other; none without conditions. A made-up person's mesh never lies beside them, as that of a
 * real one does by a pixel or so; so it is moved about, by a seed, where drafts learn from it.
 * @param seed left out, it stays where it is
 */
export async function draftsOf(
  pictures: readonly Uint8Array[],
  conditions: readonly Uint8Array[],
  size: number,
  seed?: number,
): Promise<Uint8Array> {
  if (conditions.length === 0) return new Uint8Array(0);
  const d = seed === undefined ? undefined : new Dice(seed);
  const some = () => (d ? Math.round(d.normal(0, astray * size)) : 0);
  const shifts = conditions.map(() => [some(), some()] as const);
  return joined((await draftPictures(pictures, conditions, size, { parts: 3, shift: (i) => shifts[i] })).own[0]);
}

/** One behind the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
