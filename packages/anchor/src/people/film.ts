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
  /** Pictures alone, pictures with their mesh renders, or the same of their heads with masks. */
  what: "pictures" | "body" | "head";
  /** Of the head's crops, pixels. */
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
  /** Of heads: `[frames, size, size]`, 1 where the picture is kept. */
  masks: Uint8Array;
}

/** Frames a second of a training performance: neighbours must differ. */
const fps = 0.7;

/** The person of a seed. Heads turned away or hidden are left out by filming on; a person who never shows the face gives fewer frames. */
export async function filmPerson(seed: number, w: PeopleWork): Promise<FilmedPerson> {
  const head = w.what === "head";
  const length = head ? w.frames * 3 : w.frames;
  using person = new Person(seed, w.size, length, fps);
  const pictures: Uint8Array[] = [];
  const conditions: Uint8Array[] = [];
  const masks: Uint8Array[] = [];
  if (!head) {
    for (let f = 0; f < length; f++) {
      pictures.push(toPlanes(person.picture(f)));
      if (w.what === "body") conditions.push(toPlanes(person.condition(f)));
    }
  } else {
    const renderer = new ConditionRenderer("mannequin", person.camera, w.size);
    try {
      // Each frame stands alone: they lie too far apart to be smoothed over.
      for (let f = 0; f < length && pictures.length < w.frames; f++) {
        const track = new FaceTrack((i) => meshSight(renderer, person.motion, f + i), 1, { size: w.headSize });
        const face = await track.at(0);
        if (!face.painted || !face.matrix) continue;
        const crop = headCrop(person.picture(f), person.condition(f, w.conditionSize), face, w.headSize);
        pictures.push(toPlanes(crop.image));
        conditions.push(toPlanes(crop.condition));
        masks.push(Uint8Array.from(toLuma(crop.mask), (v) => (v >= 128 ? 1 : 0)));
      }
    } finally {
      renderer.dispose();
    }
  }
  const join = (parts: Uint8Array[]) => {
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  };
  return { pictures: join(pictures), conditions: join(conditions), masks: join(masks) };
}
