import { describe, expect, test } from "vitest";
import { createHash } from "node:crypto";
import { filmPerson, type PeopleWork } from "./film.ts";
import { Person } from "./person.ts";
import { measuringSeed, PeopleStream, trainingSeed } from "./stream.ts";

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const work: PeopleWork = { size: 64, frames: 2, what: "all", headSize: 32, conditionSize: 128 };
const n = 3 * 64 * 64;

describe("made-up people", () => {
  test("a seed is a person: the same bytes again, and nobody else's", async () => {
    const [a, again, b] = [await filmPerson(4, work), await filmPerson(4, work), await filmPerson(6, work)];
    expect(a.pictures.length).toBe(2 * n);
    expect(digest(a.pictures)).toBe(digest(again.pictures));
    expect(digest(a.conditions)).toBe(digest(again.conditions));
    expect(a.drafts.length).toBe(2 * n);
    expect(digest(a.drafts)).toBe(digest(again.drafts));
    expect(digest(a.pictures)).not.toBe(digest(b.pictures));
  });

  test("picture and mesh show the same body: what the mesh covers is what moves", async () => {
    let [inside, outside] = [0, 0];
    let [pixelsIn, pixelsOut] = [0, 0];
    for (const seed of [2, 8, 10, 12]) {
      const { pictures, conditions } = await filmPerson(seed, work);
      for (let i = 0; i < n / 3; i++) {
        const covered = conditions[i] > 0 || conditions[n + i] > 0;
        const change = Math.abs(pictures[i] - pictures[n + i]) + Math.abs(pictures[n / 3 + i] - pictures[n + n / 3 + i]);
        if (covered) [inside, pixelsIn] = [inside + change, pixelsIn + 1];
        else [outside, pixelsOut] = [outside + change, pixelsOut + 1];
      }
    }
    expect(pixelsIn).toBeGreaterThan(1000);
    expect(inside / pixelsIn).toBeGreaterThan(5 * (outside / pixelsOut));
  });

  test("heads come with their condition and a mask that takes the face out", async () => {
    const { count, pictures, conditions, masks } = (await filmPerson(2, work)).heads;
    expect(count).toBe(2);
    expect(pictures.length).toBe(2 * 3 * 32 * 32);
    expect(conditions.length).toBe(pictures.length);
    expect(masks.length).toBe(2 * 32 * 32);
    expect(masks[16 * 32 + 16]).toBe(0);
    expect(masks[0]).toBe(1);
  });

  test("looks differ: skin, hair and clothes of two dozen people", () => {
    const looks = Array.from({ length: 24 }, (_, k) => {
      using p = new Person(measuringSeed(k), 16, 1, 1);
      return p.look;
    });
    expect(new Set(looks.map((l) => l.hair.style)).size).toBeGreaterThan(3);
    expect(new Set(looks.map((l) => l.top.pattern.kind)).size).toBeGreaterThan(3);
    for (const some of [
      looks.some((l) => l.glasses),
      looks.some((l) => l.beard),
      looks.some((l) => l.jacket),
      looks.some((l) => !l.jacket),
    ])
      expect(some).toBe(true);
  });

  test("hands take forms: fingers straight or bent, side by side or spread, each hand by itself", () => {
    const bends: number[] = [];
    const spreads: number[] = [];
    let [apart, poses] = [0, 0];
    for (let k = 0; k < 40; k++) {
      using p = new Person(trainingSeed(k), 16, 6, 0.7);
      for (let f = 0; f < 6; f++) {
        const [left, right] = [p.motion.leftHandPose, p.motion.rightHandPose].map((h) => h.subarray(f * 45, f * 45 + 36));
        // A left finger bends about −z, a right one about z.
        bends.push(-(left[2] + left[5]), right[2] + right[5]);
        // Between the first finger and the ring finger, at the knuckles.
        spreads.push(left[1] - left[28], right[28] - right[1]);
        apart += Math.abs(left[5] + right[5]) > 0.3 ? 1 : 0;
        poses++;
        expect(Math.max(...left.map(Math.abs), ...right.map(Math.abs))).toBeLessThan(2.3);
      }
    }
    const share = (of: number[], yes: (x: number) => boolean) => of.filter(yes).length / of.length;
    expect(share(bends, (x) => x < 0.3)).toBeGreaterThan(0.1);
    expect(share(bends, (x) => x > 1)).toBeGreaterThan(0.15);
    expect(share(spreads, (x) => x > 0.2)).toBeGreaterThan(0.15);
    expect(share(spreads, (x) => x < 0.1)).toBeGreaterThan(0.15);
    expect(apart / poses).toBeGreaterThan(0.15);
  });

  test("a stream gives the same people in the same order, from wherever it begins; nobody who is measured is trained on", async () => {
    const stream = new PeopleStream(work, 0, { ahead: 2, workers: 2 });
    const later = new PeopleStream(work, 2, { ahead: 1 });
    try {
      const three = [await stream.take(), await stream.take(), await stream.take()];
      expect(digest((await later.take()).pictures)).toBe(digest(three[2].pictures));
      expect(digest(three[1].pictures)).toBe(digest((await filmPerson(trainingSeed(1), work)).pictures));
    } finally {
      await stream.close();
      await later.close();
    }
    const trained = new Set(Array.from({ length: 1000 }, (_, k) => trainingSeed(k)));
    expect(Array.from({ length: 1000 }, (_, k) => measuringSeed(k)).some((s) => trained.has(s))).toBe(false);
  });
});
