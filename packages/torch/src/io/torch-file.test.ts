/** Checkpoints of Python torch: the two formats, and files that mean harm. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { loadSafetensors, TorchError, TorchFile } from "../index.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../../../test/checkpoints/${name}`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "torch-file-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const spoiled = (bytes: Uint8Array): string => {
  const path = join(folder, "spoiled.bin");
  writeFileSync(path, bytes);
  return path;
};
const refusal = (bytes: Uint8Array): TorchError => {
  try {
    using file = new TorchFile(spoiled(bytes));
    for (const key of file.keys()) file.read(key).dispose();
  } catch (error) {
    if (error instanceof TorchError) return error;
    throw error;
  }
  throw new Error("was read");
};

describe("TorchFile reads what torch.save wrote", () => {
  const wanted = loadSafetensors(fixture("wanted.safetensors"));
  for (const name of ["zip.bin", "legacy.bin", "training.ckpt"]) {
    it(name, () => {
      using file = new TorchFile(fixture(name));
      expect([...file.keys()].sort()).toEqual([...wanted.keys()].sort());
      for (const [key, t] of wanted) {
        using got = file.read(key);
        expect([got.dtype, got.shape], key).toEqual([t.dtype, t.shape]);
        expect(got.data(), key).toEqual(t.data());
      }
    });
  }
  it("writing to a mapped tensor leaves the file alone", () => {
    const path = join(folder, "copy.bin");
    const before = readFileSync(fixture("zip.bin"));
    writeFileSync(path, before);
    using file = new TorchFile(path);
    using t = file.read("large");
    t.zero_();
    expect(t.abs().sum().item()).toBe(0);
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});

describe("hostile and damaged files are refused", () => {
  const zip = readFileSync(fixture("zip.bin"));
  const legacy = readFileSync(fixture("legacy.bin"));
  for (const name of ["os-system.bin", "builtins-eval.bin", "legacy-os-system.bin", "nested.bin"]) {
    it(`${name} runs nothing`, () => {
      const error = refusal(readFileSync(fixture(name)));
      expect(error.code).toBe("PICKLE");
      expect(error.message).toMatch(/refused, because a pickle can run programs/);
    });
  }
  it.each([
    ["compressed.bin", /compressed/],
    ["overlapping.bin", /share bytes/],
    ["beyond.bin", /reaches element/],
    ["missing-storage.bin", /is missing/],
    ["claims-10gb.bin", /is to hold|points to bytes|claims|ends at byte/],
    ["big-endian.bin", /most significant byte first/],
    ["two-pickles.bin", /2 data\.pkl/],
  ])("%s", (name, message) => {
    const error = refusal(readFileSync(fixture(name)));
    expect(error.code).toBe("CHECKPOINT");
    expect(error.message).toMatch(message);
  });
  it("cut short anywhere: an error, never a crash or a wrong number", () => {
    for (const [whole, step] of [
      [zip, 977],
      [legacy, 977],
    ] as const)
      for (let n = 0; n < whole.length; n += step) expect(refusal(whole.subarray(0, n)).code).toMatch(/CHECKPOINT|PICKLE|FILE/);
  });
  it("any byte of the structure changed: an error or other numbers, never a crash", () => {
    // Without the numbers themselves, in which every change is just another number.
    let state = 12345;
    const random = (n: number) => (state = (state * 1103515245 + 12345) & 0x7fffffff) % n;
    for (let i = 0; i < 1500; i++) {
      const bytes = Uint8Array.from(i % 2 ? zip : legacy);
      const head = Math.min(bytes.length, 1200);
      for (let k = 0; k < 1 + random(3); k++) bytes[random(2) && i % 2 ? bytes.length - 1 - random(900) : random(head)] = random(256);
      try {
        using file = new TorchFile(spoiled(bytes));
        for (const key of file.keys()) file.read(key).dispose();
      } catch (error) {
        expect(error).toBeInstanceOf(TorchError);
      }
    }
  });
});
