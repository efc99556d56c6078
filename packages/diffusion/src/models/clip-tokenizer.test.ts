import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { CLIPTokenizer } from "./clip-tokenizer.ts";

const folder = fileURLToPath(new URL("../../../../test/checkpoints/tokenizer", import.meta.url));

describe("CLIPTokenizer", () => {
  const tokenizer = CLIPTokenizer.fromPretrained(folder);
  const expected = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8")) as { text: string; length: number; ids: number[] }[];
  for (const { text, length, ids } of expected)
    it(`${JSON.stringify(text.slice(0, 40))} to ${length} tokens, as transformers`, () =>
      expect(tokenizer.encode(text, length)).toEqual(ids));
  it("the empty text is a start and ends", () => {
    const [first, ...rest] = tokenizer.encode("", 50);
    expect(first).toBe(tokenizer.bos);
    expect(new Set(rest)).toEqual(new Set([tokenizer.eos]));
  });
  it("a folder without merges, and a vocabulary that is none of CLIP's", () => {
    expect(() => CLIPTokenizer.fromPretrained("/nowhere")).toThrow(/merges\.txt: no such file/);
    expect(() => new CLIPTokenizer(new Map([["a", 0]]), [])).toThrow(/lacks <\|startoftext\|>/);
  });
});
