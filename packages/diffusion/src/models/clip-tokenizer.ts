/** CLIP's byte-pair encoding (arXiv:1508.07909 over bytes), as Stable Diffusion's `tokenizer/` folder describes it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromData, TorchError, type Tensor } from "@make-your-anchor/torch";
import { readConfig } from "../weights/config.ts";

/** Words, contractions, single digits, runs of other signs; special tokens whole. */
const pieces = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;

/** Every byte as a printable character: printable ones as themselves, the others from 256 on. */
const byteCharacters: readonly string[] = (() => {
  const own = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(own(b) ? b : next++));
})();

export class CLIPTokenizer {
  /** Tokens the text encoder takes, 77. */
  readonly maxLength: number;
  readonly bos: number;
  readonly eos: number;
  readonly pad: number;
  private readonly vocabulary: ReadonlyMap<string, number>;
  private readonly ranks: ReadonlyMap<string, number>;
  private readonly unknown: number;
  private readonly cache = new Map<string, readonly string[]>();

  constructor(vocabulary: ReadonlyMap<string, number>, merges: readonly string[], o: { padToken?: string; maxLength?: number } = {}) {
    this.vocabulary = vocabulary;
    this.ranks = new Map(merges.map((m, i) => [m, i]));
    this.maxLength = o.maxLength ?? 77;
    const special = (token: string) => {
      const id = vocabulary.get(token);
      if (id === undefined) throw new TorchError("TOKENIZER", `the vocabulary lacks ${token}: not CLIP's`);
      return id;
    };
    this.bos = special("<|startoftext|>");
    this.eos = special("<|endoftext|>");
    this.unknown = this.eos;
    this.pad = special(o.padToken ?? "<|endoftext|>");
  }

  /** Reads `vocab.json`, `merges.txt` and, where they are, `tokenizer_config.json` and `special_tokens_map.json`. */
  static fromPretrained(folder: string): CLIPTokenizer {
    const path = join(folder, "merges.txt");
    if (!existsSync(path)) throw new TorchError("FILE", `${path}: no such file; a tokenizer folder holds vocab.json and merges.txt`);
    const vocabulary = new Map<string, number>();
    for (const [token, id] of Object.entries(readConfig(join(folder, "vocab.json")))) {
      if (typeof id !== "number" || !Number.isInteger(id) || id < 0)
        throw new TorchError("TOKENIZER", `${join(folder, "vocab.json")}: ${token}: expected a whole number, got ${JSON.stringify(id)}`);
      vocabulary.set(token, id);
    }
    const merges = readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.trim())
      .filter((line, i) => line !== "" && !(i === 0 && line.startsWith("#version")));
    const optional = (name: string) => (existsSync(join(folder, name)) ? readConfig(join(folder, name)) : {});
    const config = { ...optional("special_tokens_map.json"), ...optional("tokenizer_config.json") };
    const token = (x: unknown): string | undefined =>
      typeof x === "string"
        ? x
        : typeof (x as { content?: unknown } | undefined)?.content === "string"
          ? (x as { content: string }).content
          : undefined;
    const length = config.model_max_length;
    return new CLIPTokenizer(vocabulary, merges, {
      padToken: token(config.pad_token),
      maxLength: typeof length === "number" && length > 0 && length < 1e6 ? length : undefined,
    });
  }

  /** Joins a word's characters by the learnt merges, the earliest learnt first. */
  private bpe(word: string): readonly string[] {
    const known = this.cache.get(word);
    if (known) return known;
    const characters = [...word];
    let parts = characters.map((c, i) => (i === characters.length - 1 ? `${c}</w>` : c));
    while (parts.length > 1) {
      let [best, at] = [Number.POSITIVE_INFINITY, -1];
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Number.POSITIVE_INFINITY;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      // Every place of that pair at once, from the left.
      const [a, b] = [parts[at], parts[at + 1]];
      const joined: string[] = [];
      for (let i = 0; i < parts.length; i++) {
        if (i + 1 < parts.length && parts[i] === a && parts[i + 1] === b) {
          joined.push(a + b);
          i++;
        } else joined.push(parts[i]);
      }
      parts = joined;
    }
    if (this.cache.size < 10_000) this.cache.set(word, parts);
    return parts;
  }

  /** Ids of a text, without start and end. */
  tokenize(text: string): number[] {
    const clean = text.normalize("NFC").replaceAll(/\s+/gu, " ").trim().toLowerCase();
    const out: number[] = [];
    for (const [piece] of clean.matchAll(pieces)) {
      const whole = piece.startsWith("<|") ? this.vocabulary.get(piece) : undefined;
      if (whole !== undefined) {
        out.push(whole);
        continue;
      }
      const word = Array.from(Buffer.from(piece, "utf8"), (b) => byteCharacters[b]).join("");
      for (const part of this.bpe(word)) out.push(this.vocabulary.get(part) ?? this.unknown);
    }
    return out;
  }

  /** A text as the encoder takes it: start, ids cut to fit, end, padding up to `length`. */
  encode(text: string, length = this.maxLength): number[] {
    const ids = [this.bos, ...this.tokenize(text).slice(0, Math.max(0, length - 2)), this.eos];
    while (ids.length < length) ids.push(this.pad);
    return ids;
  }

  /** int64 `[texts, length]`. */
  encodeBatch(texts: readonly string[], length = this.maxLength): Tensor {
    const ids = texts.flatMap((t) => this.encode(t, length));
    return fromData(BigInt64Array.from(ids, BigInt), [texts.length, length]);
  }
}
