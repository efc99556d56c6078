import { afterEach, beforeEach, expect, test } from "vitest";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FrameFile } from "./frame-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "frames-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const frame = (v: number) => new Uint8Array(12).fill(v);

test("frames come back as they were put in, in any order, and leave no file behind", () => {
  using a = new FrameFile(folder, 2);
  using b = new FrameFile(folder, 2);
  for (const i of [2, 0, 1]) a.set(i, frame(i + 1));
  b.set(0, frame(9));
  a.set(1, frame(7));
  expect([0, 1, 2].map((i) => a.get(i))).toEqual([frame(1), frame(7), frame(3)]);
  expect(b.get(0)).toEqual(frame(9));
  expect(readdirSync(folder)).toEqual([]);
});

test("what was never kept, or has another size, is an error", () => {
  using file = new FrameFile(folder, 2);
  file.set(0, frame(1));
  expect(() => file.get(1)).toThrow("frame 1 was never kept");
  expect(() => file.set(1, new Uint8Array(11))).toThrow("expected a frame of 12 bytes, got 11");
});

test("a folder that cannot be made is named", () => {
  writeFileSync(join(folder, "file"), "");
  expect(() => new FrameFile(join(folder, "file", "x"), 2)).toThrow(/file\/x: cannot be written/);
});
