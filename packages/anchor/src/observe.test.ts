import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Poser } from "@make-your-anchor/body";
import { createDetector, type Detection, type Point } from "@make-your-anchor/face";
import { VideoWriter, type RgbImage } from "@make-your-anchor/media";
import { bodyModel } from "./body-models.ts";
import { handsOf, observeClip, observedSize } from "./observe.ts";
import { Person } from "./people/person.ts";

test("what is seen in a picture does not depend on the picture before it", { timeout: 120_000 }, async () => {
  using person = new Person(1, observedSize, 4, 25);
  const [first, second, third] = [0, 1, 2].map((f) => person.picture(f));
  /** Of the last of these, looked at one after the other by one thread. */
  const last = async (...pictures: RgbImage[]): Promise<Detection> => {
    const detector = createDetector({ workers: 1 });
    try {
      const seen = await Promise.all(pictures.map((p) => detector.detect(p)));
      return seen.at(-1)!;
    } finally {
      await detector.close();
    }
  };
  const alone = await last(third);
  expect(alone.people.some((p) => p.body.filter((b) => b).length > 8)).toBe(true);
  expect(await last(first, second, third)).toEqual(alone);
});

test("frames that are not all as long are counted by time, as those that are kept", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "observe-"));
  try {
    using person = new Person(1, 256, 24, 25);
    const writer = new VideoWriter(join(folder, "whole.mp4"), { width: 256, height: 256, fps: 25 });
    for (let f = 0; f < 24; f++) await writer.write(person.picture(f));
    await writer.close();
    // The frames from 8 to 15 were never filmed: the one before them stays that long.
    const gap = ["-vf", "select='lt(n,8)+gt(n,15)'", "-fps_mode", "vfr", join(folder, "gap.mkv")];
    execFileSync("ffmpeg", ["-v", "error", "-i", join(folder, "whole.mp4"), ...gap]);
    const keep = { path: join(folder, "seen.jsonl"), clip: "gap" };
    const { frames, landmarks } = await observeClip(join(folder, "gap.mkv"), { keep });
    expect(frames).toBe(24);
    const body = (i: number) => landmarks(i).body;
    expect(body(8)).toEqual(body(7));
    expect(body(15)).toEqual(body(7));
    expect(body(16)).not.toEqual(body(7));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("hands seen in the frame before", { timeout: 120_000 }, () => {
  const apart = (a: readonly Point[], b: readonly Point[]) =>
    a.reduce((sum, p, k) => sum + Math.hypot(p.x - b[k].x, p.y - b[k].y), 0) / a.length;

  test("are seen where they are now, without a search", async () => {
    using person = new Person(1, observedSize, 8, 25);
    const detector = createDetector({ workers: 1 });
    try {
      const hands = handsOf(await detector.detect(person.picture(0)));
      expect(hands).toHaveLength(2);
      const later = person.picture(2);
      const followed = handsOf(await detector.detect(later, { hands }));
      const searched = handsOf(await detector.detect(later));
      expect(handsOf(await detector.detect(later, { searchHands: false }))).toHaveLength(0);
      expect(followed).toHaveLength(2);
      followed.forEach((hand, i) => {
        expect(hand.score).toBe(hands[i].score); // of whom nobody searched for: the score of the search before
        expect(apart(hand.points, searched[i].points)).toBeLessThan(0.5 * apart(hands[i].points, searched[i].points));
      });
    } finally {
      await detector.close();
    }
  });

  test("are searched for where they are not to be seen any more", async () => {
    using person = new Person(1, observedSize, 8, 25);
    const picture = person.picture(0);
    const detector = createDetector({ workers: 1 });
    try {
      const found = await detector.detect(picture);
      const hands = handsOf(found).map(({ score, points }) => ({
        score,
        points: points.map((p) => ({ ...p, x: p.x * 0.2, y: p.y * 0.2 })),
      }));
      expect(await detector.detect(picture, { hands, searchHands: false })).toEqual(found);
    } finally {
      await detector.close();
    }
  });
});

// Of people whose hands lie turned: as Human alone looks at them, their fingertips are missed by more than a quarter of the hand.
test.each([
  { seed: 3, frame: 1, side: "rightHand", wrist: 21, tips: 71 },
  { seed: 23, frame: 1, side: "rightHand", wrist: 21, tips: 71 },
] as const)(
  "fingertips are found where they are ($side of person $seed)",
  { timeout: 120_000 },
  async ({ seed, frame, side, wrist, tips }) => {
    using person = new Person(seed, observedSize, 6, 0.7);
    for (const hand of [person.motion.leftHandPose, person.motion.rightHandPose]) hand.fill(0); // open
    using poser = new Poser(bodyModel("mannequin"));
    const { joints } = poser.pose(person.motion, frame);
    const { focal, cx, cy, transl } = person.camera;
    const place = (j: number) => {
      const [x, y, z] = [0, 1, 2].map((k) => joints[3 * j + k] + transl[k]);
      return { x: (focal * x) / z + cx, y: (focal * y) / z + cy };
    };
    const detector = createDetector({ workers: 1 });
    try {
      const hand = (await detector.detect(person.picture(frame))).people[0][side]!;
      const apart = (a: { x: number; y: number }, b: { x: number; y: number }) => Math.hypot(a.x - b.x, a.y - b.y);
      const truth = [0, 1, 2, 3, 4].map((k) => place(tips + k));
      const size = Math.max(...truth.map((t) => apart(t, place(wrist))));
      const missed = truth.reduce((sum, t, k) => sum + apart(t, hand.points[4 * k + 4]), 0) / 5 / size;
      expect(missed).toBeLessThan(0.12);
    } finally {
      await detector.close();
    }
  },
);
