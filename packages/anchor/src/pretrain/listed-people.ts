/** A data set's people, one after the other without end, as made-up ones come: a few of their pictures each time. */
import { Generator, scope } from "@make-your-anchor/torch";
import { readImage, resizePil, toLuma, type RgbImage } from "@make-your-anchor/media";
import { toPlanes } from "../dataset.ts";
import { AnchorError } from "../errors.ts";
import { draftsOf, joined, type FilmedPerson, type PeopleWork } from "../people/film.ts";
import type { PeopleSource } from "./pool.ts";
import type { Row } from "./dataset.ts";

export class ListedPeople implements PeopleSource {
  /** How many there are. */
  readonly count: number;
  private readonly people: { bodies: Row[]; heads: Row[] }[];
  private readonly work: PeopleWork;
  private next: number;

  /** @param first the person to begin with, counting on without end */
  constructor(rows: readonly Row[], work: PeopleWork, first: number) {
    const byPerson = Map.groupBy(rows, (r) => r.person);
    this.people = [...byPerson.values()].flatMap((own) => {
      const bodies = own.filter((r) => r.mask === null);
      return bodies.length > 0 ? [{ bodies, heads: own.filter((r) => r.mask !== null) }] : [];
    });
    if (this.people.length === 0)
      throw new AnchorError("DATASET", "the data set holds heads alone: the mini preset's base wants whole bodies, with or without heads", {
        misuse: true,
      });
    this.count = this.people.length;
    this.work = work;
    this.next = first;
  }

  async take(): Promise<FilmedPerson> {
    const turn = this.next++;
    const { bodies, heads } = this.people[turn % this.count];
    using g = new Generator(turn);
    const { frames, size, headSize, what } = this.work;
    // In their order and as far as they reach no row twice: a frame's draft must not have seen it.
    const pick = (from: readonly Row[], n: number): Row[] => {
      const order = scope(() => Array.from(g.randperm(from.length).data(), Number));
      return Array.from({ length: n }, (_, k) => order[k % order.length])
        .sort((a, b) => a - b)
        .map((k) => from[k]);
    };
    const shown = pick(bodies, frames);
    const crops = what === "all" && heads.length > 0 ? pick(heads, frames) : [];
    const [pictures, conditions] = [await planes(shown, "picture", size), what === "all" ? await planes(shown, "condition", size) : []];
    const [headPictures, headConditions] = [await planes(crops, "picture", headSize), await planes(crops, "condition", headSize)];
    return {
      pictures: joined(pictures),
      conditions: joined(conditions),
      drafts: await draftsOf(pictures, conditions, size),
      reference: joined(await planes(shown.slice(0, 1), "reference", size)),
      heads: {
        count: crops.length,
        pictures: joined(headPictures),
        conditions: joined(headConditions),
        drafts: await draftsOf(headPictures, headConditions, headSize),
        masks: await masks(crops, headSize),
        reference: joined(await planes(crops.slice(0, 1), "reference", headSize)),
      },
    };
  }
  async close(): Promise<void> {}
}

const at = (image: RgbImage, size: number): RgbImage =>
  image.width === size && image.height === size ? image : resizePil(image, size, size, "bilinear");

async function planes(rows: readonly Row[], what: "picture" | "condition" | "reference", size: number): Promise<Uint8Array[]> {
  const out: Uint8Array[] = [];
  for (const row of rows) out.push(toPlanes(at(await readImage(row[what]), size)));
  return out;
}
async function masks(rows: readonly Row[], size: number): Promise<Uint8Array> {
  const out = new Uint8Array(rows.length * size * size);
  for (const [i, row] of rows.entries())
    out.set(
      Uint8Array.from(toLuma(at(await readImage(row.mask!), size)), (v) => (v >= 128 ? 1 : 0)),
      i * size * size,
    );
  return out;
}
