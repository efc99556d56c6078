/** Drafts of the pictures that something is trained on: for rendering from all of them, for training without what they are drafts of. */
import { setImmediate as breathe } from "node:timers/promises";
import type { PictureSet } from "../dataset.ts";
import type { Background } from "./background.ts";
import { layeredBackground } from "./layers.ts";
import type { View } from "./view.ts";
import { DraftSums, type Draft } from "./draft.ts";
import { Dice } from "../people/random.ts";
import type { WorkOptions } from "../progress.ts";

export interface DraftOptions extends WorkOptions {
  /** How many parts the pictures are cut into, in their order; a picture's draft leaves out its own part. Default 8. */
  parts?: number;
  /** Default 1: a picture's draft is from all other parts. More: that many times each part gets a random half of the others. */
  halves?: number;
  /** How many drafts each picture gets, of different halves; at most, and by default, as many as there are. */
  variants?: number;
  /** How the camera saw each picture's background; leave out where it stood still. */
  views?: readonly View[];
  /** Of a picture, see `DraftSums.add`. */
  shift?: (i: number) => readonly [number, number];
}

export interface DraftedPictures {
  draft: Draft;
  /** Planes by variant and picture. */
  own: Uint8Array[][];
}

/**
 * The draft of some pictures, and their own, each made without those around it: training must see drafts as wrong about its frames as they will be
 * about a new pose.
 * @param pictures planes `[3, size, size]` in their order; `conditions` with them
 */
export async function draftPictures(
  pictures: readonly Uint8Array[],
  conditions: readonly Uint8Array[],
  size: number,
  o: DraftOptions = {},
): Promise<DraftedPictures> {
  const count = pictures.length;
  const { halves = 1 } = o;
  const variants = Math.min(o.variants ?? halves, halves);
  const parts = Math.min(o.parts ?? 8, count);
  const part = (i: number) => Math.floor((i * parts) / count);
  const sums = Array.from({ length: parts }, () => new DraftSums(size));
  const each = async (pass: number, work: (i: number) => void) => {
    for (let i = 0; i < count; i++) {
      work(i);
      if (i % breath !== breath - 1) continue;
      o.signal?.throwIfAborted();
      o.onProgress?.({ stage: "drafting frames", done: pass * count + i + 1, total: (1 + variants) * count });
      await breathe();
    }
  };
  await each(0, (i) => sums[part(i)].add(pictures[i], conditions[i], o.shift?.(i)));
  const from = (some: readonly DraftSums[], background?: Background) =>
    some.reduce((a, s) => a.join(s), new DraftSums(size)).draft(background);
  const draft = from(sums, o.views && (await layeredBackground(pictures, conditions, o.views, size, o.signal)).background);
  // The background is that of all: a camera moves, and what its mean lacks would tell which part is left out. So would tables that
  // lack one part each; a random half of the others tells little.
  const d = new Dice(halves);
  const few = halves > 1 ? Math.ceil((parts - 1) / 2) : parts;
  const tables = Array.from({ length: halves }, () =>
    sums.map((_, j) => {
      const others = sums.filter((_, k) => k !== j);
      while (others.length > few) others.splice(d.below(others.length), 1);
      return others.length > 0 ? from(others, draft.background) : draft;
    }),
  );
  const own: Uint8Array[][] = [];
  for (let v = 0; v < variants; v++) {
    const made: Uint8Array[] = [];
    await each(1 + v, (i) => made.push(tables[(i + v) % halves][part(i)].planes(conditions[i], o.views?.[i])));
    own.push(made);
  }
  return { draft, own };
}
/** Pictures between two looks at what else there is to do. */
const breath = 32;

/** Most drafts that are kept of a clip's frames. */
const most = 1500;

/** A clip's draft, and those its frames are trained with: four of each, or fewer where there are very many. */
export const draftClip = (
  pictures: PictureSet,
  conditions: PictureSet,
  o: Pick<DraftOptions, "views"> & WorkOptions,
): Promise<DraftedPictures> =>
  draftPictures(pictures.all, conditions.all, pictures.size, {
    ...o,
    halves: 4,
    variants: Math.max(1, Math.floor(most / pictures.length)),
  });

/** Which of a frame's drafts a sample takes: by its timestep, which is drawn at random, so that every process of several takes the same. */
export const variantAt = (timestep: number, variants: number): number => timestep % variants;
