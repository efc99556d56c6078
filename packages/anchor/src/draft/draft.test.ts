import { expect, test } from "vitest";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromData, SafetensorsFile, saveSafetensors } from "@make-your-anchor/torch";
import type { View } from "./view.ts";
import { Draft } from "./draft.ts";
import { draftPictures } from "./draft-clip.ts";

const size = 32;
const n = size * size;

/** A square body whose surface colours run from left to right and from top to bottom, its upper left corner at `x`, `y`. */
function condition(x: number, y: number): Uint8Array {
  const out = new Uint8Array(3 * n);
  for (let v = 0; v < 12; v++)
    for (let u = 0; u < 12; u++) {
      const p = (y + v) * size + x + u;
      [out[p], out[n + p], out[2 * n + p]] = [40 + 14 * u, 60 + 12 * v, 200];
    }
  return out;
}
/** How that body looks: stripes; and the wall behind it. */
const stripe = (colour: number) => (Math.floor((colour - 40) / 14) % 4 < 2 ? 220 : 30);
const wall = (p: number, c: number) => 100 + 5 * c + (p % size);
function picture(cond: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: 3 * n }, (_, i) => {
    const [c, p] = [Math.floor(i / n), i % n];
    return cond[p] > 0 ? stripe(cond[p]) : wall(p, c);
  });
}
const conditions = Array.from({ length: 16 }, (_, i) => condition(1 + i, 4 + (i % 8)));
const pictures = conditions.map(picture);
/** Mean difference where `mask` says. */
function off(a: Uint8Array, b: Uint8Array, where: (p: number) => boolean): number {
  let [sum, count] = [0, 0];
  for (let i = 0; i < 3 * n; i++) if (where(i % n)) [sum, count] = [sum + Math.abs(a[i] - b[i]), count + 1];
  return sum / count;
}

test("a place that was never there before is drawn in the colours it has elsewhere, before the wall behind it", async () => {
  const { draft } = await draftPictures(pictures, conditions, size);
  const unseen = condition(14, 18);
  const [made, truth] = [draft.planes(unseen), picture(unseen)];
  expect(off(made, truth, (p) => unseen[p] > 0)).toBeLessThan(25);
  expect(off(made, truth, (p) => unseen[p] === 0)).toBeLessThan(1);
  // A wall that stood behind the body now and then is known from when it did not.
  const uncovered = draft.planes(condition(1, 4));
  expect(off(uncovered, picture(condition(1, 4)), (p) => p % size > 13)).toBeLessThan(1);
  expect((await draftPictures(pictures, conditions, size)).draft.planes(unseen)).toEqual(made);
});

test("who always stands at one place leaves no ghost there: the wall goes on behind them", async () => {
  const one = conditions[3];
  const { draft } = await draftPictures([pictures[3], pictures[3]], [one, one], size);
  const empty = draft.planes(new Uint8Array(3 * n));
  expect(off(empty, picture(new Uint8Array(3 * n)), (p) => one[p] > 0)).toBeLessThan(4);
  expect(off(pictures[3], picture(new Uint8Array(3 * n)), (p) => one[p] > 0)).toBeGreaterThan(60);
});

test("a frame's own draft has not seen it, nor those around it", async () => {
  const strange = pictures.map((p, i) => (i === 4 || i === 5 ? p.map((_, k) => (conditions[i][k % n] > 0 ? 0 : p[k])) : p));
  const { draft, own } = await draftPictures(strange, conditions, size, { parts: 8 });
  const body = (p: number) => conditions[4][p] > 0;
  expect(off(own[0][4], pictures[4], body)).toBeLessThan(25); // as if it looked like the others
  expect(off(own[0][0], own[0][4], body)).toBeGreaterThan(5); // which know of it
  expect(off(draft.planes(conditions[4]), own[0][4], body)).toBeGreaterThan(2);
});

test("drafts from halves of the other parts differ, know nothing of their own, and have one background", async () => {
  const dimming = pictures.map((p, i) => p.map((v) => v - i));
  const { draft, own } = await draftPictures(dimming, conditions, size, { halves: 4, variants: 2 });
  expect(own.map((o) => o.length)).toEqual([16, 16]);
  expect(off(own[0][7], own[1][7], (p) => conditions[7][p] > 0)).toBeGreaterThan(0);
  const whole = draft.planes(conditions[7]);
  for (const made of own) {
    expect(off(made[7], dimming[7], (p) => conditions[7][p] > 0)).toBeLessThan(30);
    expect(off(made[7], whole, (p) => conditions[7][p] === 0)).toBe(0);
  }
});

test("a mesh that lies beside the body teaches the places beside it", async () => {
  const { draft } = await draftPictures(pictures, conditions, size, { shift: () => [3, 0] });
  const unseen = condition(14, 18);
  const moved = condition(11, 18);
  const inside = (p: number) => unseen[p] > 0 && moved[p] > 0;
  const made = draft.planes(unseen);
  const truth = picture(unseen);
  const beside = Uint8Array.from({ length: 3 * n }, (_, i) => truth[i + 3] ?? 0);
  expect(off(made, beside, (p) => inside(p) && inside(p + 3))).toBeLessThan(off(made, truth, (p) => inside(p) && inside(p + 3)));
});

test("nothing to learn from is grey, and no error", async () => {
  const { draft, own } = await draftPictures([], [], 8);
  expect(own).toEqual([[]]);
  expect(draft.planes(new Uint8Array(192).fill(99))[0]).toBe(128);
});

test("what lies behind goes with the camera, in training's drafts too, and is kept with what is fixed to the screen", async () => {
  // The wall slides to the right under a body and a caption that stay.
  const views = pictures.map((_, i): View => [1, 0, i / 4 - 2, 0, 1, 0]);
  const caption = (p: number) => p % size >= 28;
  const slid = pictures.map((_, i) =>
    Uint8Array.from({ length: 3 * n }, (_, k) => {
      const [c, p] = [Math.floor(k / n), k % n];
      if (conditions[i][p] > 0) return pictures[i][k];
      return caption(p) ? (p % 3) * 100 : 120 + 60 * Math.sin((p % size) - views[i][2] + c);
    }),
  );
  const { draft, own } = await draftPictures(slid, conditions, size, { views });
  const wallOf = (i: number) => (p: number) => conditions[i][p] === 0 && p % size > 18 && p % size < 26;
  for (const i of [1, 14]) {
    expect(off(draft.planes(conditions[i], views[i]), slid[i], wallOf(i))).toBeLessThan(6);
    expect(off(draft.planes(conditions[i]), slid[i], wallOf(i))).toBeGreaterThan(15);
    expect(off(own[0][i], slid[i], wallOf(i))).toBeLessThan(6);
    expect(off(own[0][i], slid[i], (p) => conditions[i][p] === 0 && p % size > 28)).toBeLessThan(6);
  }
  const folder = mkdtempSync(join(tmpdir(), "draft-"));
  try {
    const path = join(folder, "draft.safetensors");
    draft.save(path);
    const again = Draft.load(path);
    expect(again.size).toBe(size);
    expect(again.planes(conditions[2], views[2])).toEqual(draft.planes(conditions[2], views[2]));
    using file = new SafetensorsFile(path);
    const parts = new Map([...file.keys()].map((name) => [name, file.read(name)] as const));
    for (const said of ["33", "0", "1.5", "many"]) {
      saveSafetensors(path, parts, { size: said });
      expect(() => Draft.load(path), said).toThrow(/expected a background around frames of .*train.*again/);
    }
    using small = fromData(new Uint8Array(4), [2, 2]);
    saveSafetensors(path, new Map([...parts, ["fixed", small]]), { size: "32" });
    expect(() => Draft.load(path)).toThrow(/expected uint8 fixed \[32, 32\], got uint8 \[2, 2\]/);
    for (const t of parts.values()) t.dispose();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("is kept in a file of its own; another one is refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "draft-"));
  try {
    const path = join(folder, "draft.safetensors");
    const { draft } = await draftPictures(pictures, conditions, size);
    draft.save(path);
    expect(Draft.load(path).planes(conditions[3])).toEqual(draft.planes(conditions[3]));
    expect(() => Draft.load(join(folder, "none.safetensors"))).toThrow(/none.safetensors: missing.*train.*again/);
    using table = fromData(new Float32Array(3), [3]);
    saveSafetensors(join(folder, "other.safetensors"), new Map([["table", table] as const, ["background", table] as const]));
    expect(() => Draft.load(join(folder, "other.safetensors"))).toThrow(/expected uint8 table \[65, 65, 65, 3\].*got float32 \[3\]/);
    copyFileSync(path, join(folder, "short.safetensors"));
    writeFileSync(join(folder, "short.safetensors"), "no");
    expect(() => Draft.load(join(folder, "short.safetensors"))).toThrow(/not a usable safetensors file/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
