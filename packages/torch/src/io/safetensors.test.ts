import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadSafetensors, SafetensorsFile, saveSafetensors, scope, tensor, type DType } from "../index.ts";

const folder = mkdtempSync(join(tmpdir(), "safetensors-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "a.safetensors");

function file(header: unknown, data = Buffer.alloc(0), claimed?: number): string {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(claimed ?? Buffer.byteLength(text)));
  writeFileSync(path, Buffer.concat([start, Buffer.from(text), data]));
  return path;
}

describe("safetensors", () => {
  it("every dtype survives a round trip, and the file is replaced whole", () =>
    scope(() => {
      const all = new Map(
        (["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"] as DType[]).map((d) => [
          d,
          tensor(
            [
              [1, 0, 1],
              [0, 1, 1],
            ],
            { dtype: d },
          ),
        ]),
      );
      saveSafetensors(path, all, { format: "pt", note: "x" });
      saveSafetensors(path, all, { format: "pt", note: "x" });
      const back = loadSafetensors(path);
      expect([...back.keys()]).toEqual([...all.keys()]);
      for (const [k, t] of back) {
        expect(t.dtype).toBe(k);
        expect(t.equal(all.get(k as DType)!)).toBe(true);
      }
      using f = new SafetensorsFile(path);
      expect(f.metadata).toEqual({ format: "pt", note: "x" });
      expect(readdirSync(folder)).toEqual(["a.safetensors"]);
      expect((8 + Number(readFileSync(path).readBigUInt64LE(0))) % 8).toBe(0);
    }));

  it("views and transposed tensors are saved as they look", () =>
    scope(() => {
      saveSafetensors(
        path,
        new Map([
          [
            "t",
            tensor([
              [1, 2],
              [3, 4],
            ]).transpose(0, 1),
          ],
        ]),
      );
      expect([...loadSafetensors(path).get("t")!.floats()]).toEqual([1, 3, 2, 4]);
    }));

  const hostile: [string, () => string, RegExp][] = [
    ["empty", () => (writeFileSync(path, ""), path), /0 bytes/],
    ["a header longer than the file", () => file({}, Buffer.alloc(0), 5000), /a header of 5000 bytes is claimed/],
    ["a header of 10 GB", () => file({}, Buffer.alloc(0), 10_000_000_000), /the format allows/],
    ["no JSON", () => file("{nope"), /not JSON/],
    ["an array", () => file([]), /not an object/],
    ["an unknown dtype", () => file({ a: { dtype: "F7", shape: [1], data_offsets: [0, 4] } }, Buffer.alloc(4)), /unknown dtype/],
    ["a negative size", () => file({ a: { dtype: "F32", shape: [-1], data_offsets: [0, 4] } }, Buffer.alloc(4)), /shape/],
    [
      "sizes that overflow",
      () => file({ a: { dtype: "F32", shape: [2 ** 40, 2 ** 40], data_offsets: [0, 4] } }, Buffer.alloc(4)),
      /bytes of data/,
    ],
    ["offsets outside", () => file({ a: { dtype: "F32", shape: [4], data_offsets: [0, 16] } }, Buffer.alloc(4)), /ends at byte/],
    ["offsets backwards", () => file({ a: { dtype: "F32", shape: [1], data_offsets: [4, 0] } }, Buffer.alloc(4)), /bytes of data/],
    [
      "overlap",
      () =>
        file(
          { a: { dtype: "F32", shape: [1], data_offsets: [0, 4] }, b: { dtype: "F32", shape: [1], data_offsets: [2, 6] } },
          Buffer.alloc(8),
        ),
      /share bytes/,
    ],
    ["entries of null", () => file({ a: null }), /unknown dtype/],
  ];
  for (const [what, make, message] of hostile) it(`refuses ${what}`, () => expect(() => new SafetensorsFile(make())).toThrow(message));

  it("refuses a file cut anywhere", () =>
    scope(() => {
      saveSafetensors(
        path,
        new Map([
          ["a", tensor([1, 2, 3])],
          ["b", tensor([[4], [5]])],
        ]),
      );
      const whole = readFileSync(path);
      for (let n = 0; n < whole.length; n += 3) {
        writeFileSync(path, whole.subarray(0, n));
        expect(() => new SafetensorsFile(path)).toThrow(/not a usable safetensors file/);
      }
    }));

  it("a missing file and a missing key say so", () =>
    scope(() => {
      expect(() => new SafetensorsFile(join(folder, "no"))).toThrow(/cannot be opened \(ENOENT\)/);
      saveSafetensors(path, new Map([["a", tensor([1])]]));
      using f = new SafetensorsFile(path);
      expect(() => f.read("b")).toThrow(/no tensor "b"; it holds 1: a/);
    }));
});
