import { afterAll, beforeAll, expect, test } from "vitest";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Detection } from "@make-your-anchor/face";
import { DetectionLog } from "./detection-log.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "seen-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const at = (x: number) => ({ x, y: Math.PI * x, score: 0.7 });
const seen = (x: number): Detection => ({
  people: [
    {
      face: { score: 0.9, box: [x, 2, 30, 40], inner: [at(x), at(1 / 3)], descriptor: Float32Array.of(0.1, -x) },
      body: [at(x), undefined, at(x + 1)],
      leftHand: { score: 0.6, points: [at(5)] },
    },
    { body: [] },
  ],
});

test("what was seen comes back as it was, to the last digit; a line cut short does not", () => {
  const path = join(folder, "whole.jsonl");
  const first = new DetectionLog(path, "clip");
  first.add(0, seen(7));
  first.add(2, seen(0.1));
  const kept = readFileSync(path, "utf8");
  appendFileSync(path, kept.split("\n")[1].slice(0, 40));
  const again = new DetectionLog(path, "clip");
  expect(again.known(0)).toEqual(seen(7));
  expect(again.known(2)).toEqual(seen(0.1));
  expect(again.known(1)).toBeUndefined();
  expect(readFileSync(path, "utf8")).toBe(kept);
  again.add(1, { people: [] });
  expect(new DetectionLog(path, "clip").known(1)).toEqual({ people: [] });
});

test("of another clip nothing is kept", () => {
  const path = join(folder, "other.jsonl");
  new DetectionLog(path, "one").add(0, seen(1));
  const other = new DetectionLog(path, "another");
  expect(other.known(0)).toBeUndefined();
  expect(readFileSync(path, "utf8").trim().split("\n")).toHaveLength(1);
});

test("a file that cannot be written is named", () => {
  expect(() => new DetectionLog(join(folder, "whole.jsonl", "below.jsonl"), "clip")).toThrow(/whole\.jsonl: cannot be written/);
});
