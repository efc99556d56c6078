import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writePng } from "@make-your-anchor/media";
import { datasetRows } from "./dataset.ts";
import { ListedPeople } from "./listed-people.ts";

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "dataset-"));
  mkdirSync(join(folder, "pictures"));
  for (const [name, v] of [
    ["a0", 10],
    ["a1", 11],
    ["b0", 20],
    ["mesh", 30],
    ["face", 40],
    ["mask", 255],
  ] as const)
    await writePng(join(folder, "pictures", `${name}.png`), { width: 8, height: 8, data: new Uint8Array(8 * 8 * 3).fill(v) });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const list = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const body = (picture: string, person?: string) => ({
  source: "pictures/mesh.png",
  target: `pictures/${picture}.png`,
  reference: `pictures/${picture[0]}0.png`,
  person,
});
const head = {
  source: "pictures/mesh.png",
  target: "pictures/face.png",
  reference: "pictures/face.png",
  mask: "pictures/mask.png",
  person: "a",
};
const work = { size: 8, frames: 3, what: "all", headSize: 4, conditionSize: 16 } as const;

describe("the original's lists", () => {
  test("as an array, or a line for each sample; heads on demand", async () => {
    const array = list("body_train.json", JSON.stringify([body("a0", "a"), body("b0")]));
    const lines = list("head_train.json", `${JSON.stringify(head)}\n\n${JSON.stringify({ ...head, person: 7 })}\n`);
    const rows = await datasetRows([array, lines], true);
    expect(rows.map((r) => [r.person, r.mask !== null])).toEqual([
      ["a", false],
      ["pictures/b0.png", false],
      ["a", true],
      ["7", true],
    ]);
    expect(rows[0].picture).toBe(join(folder, "pictures", "a0.png"));
    expect(rows[0].condition).toBe(join(folder, "pictures", "mesh.png"));
    expect(await datasetRows([array], false)).toHaveLength(2);
  });

  test.each([
    ["none.json", null, /none\.json: no such file or folder/],
    ["text.json", "hello", /text\.json, line 1: not JSON/],
    ["open.json", "[{", /open\.json: not JSON/],
    ["keys.json", '[{"source":"a"}]', /keys\.json, sample 1: target: .*expected source, target, reference and, for heads, mask/],
    ["gone.json", JSON.stringify([{ ...body("a0"), target: "pictures/c.png" }]), /gone\.json, sample 1: pictures\/c\.png: no such file/],
    ["out.json", JSON.stringify([{ ...body("a0"), target: "../../etc/passwd" }]), /out\.json, sample 1: .* leads out of the list's folder/],
    ["empty.json", "[]", /empty\.json: no samples there/],
  ])("%s is refused in a sentence", async (name, text, message) => {
    const path = text === null ? join(folder, name) : list(name, text);
    await expect(datasetRows([path], true)).rejects.toThrow(message);
  });

  test("their people come round and round, always with the same pictures at the same turn", async () => {
    const rows = await datasetRows([list("both.json", JSON.stringify([body("a0", "a"), body("a1", "a"), body("b0", "b"), head]))], true);
    const [people, later] = [new ListedPeople(rows, work, 0), new ListedPeople(rows, work, 2)];
    expect(people.count).toBe(2);
    const turns = [await people.take(), await people.take(), await people.take()];
    expect(turns[0].pictures).toHaveLength(3 * 3 * 64);
    expect(new Set(turns[0].pictures).isSubsetOf(new Set([10, 11]))).toBe(true);
    expect(new Set(turns[0].conditions)).toEqual(new Set([30]));
    expect(new Set(turns[0].reference)).toEqual(new Set([10]));
    expect(turns[0].heads.count).toBe(3);
    expect(new Set(turns[0].heads.pictures)).toEqual(new Set([40]));
    expect(new Set(turns[0].heads.masks)).toEqual(new Set([1]));
    expect(new Set(turns[1].pictures)).toEqual(new Set([20]));
    expect(turns[1].heads.count).toBe(0);
    expect((await later.take()).pictures).toEqual(turns[2].pictures);
    expect(
      () =>
        new ListedPeople(
          rows.filter((r) => r.mask !== null),
          work,
          0,
        ),
    ).toThrow(/heads alone/);
  });
});
