import { expect, test } from "vitest";
import { createDetector, type Detection } from "@make-your-anchor/face";
import type { RgbImage } from "@make-your-anchor/media";
import { observedSize } from "./observe.ts";
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
