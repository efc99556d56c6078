/**
 * What the detector saw, kept as it comes: a minute of footage takes it minutes, and an interruption is not to lose them. One line a frame, read back
 * when it is asked for, so that an hour's are never in memory at once.
 */
import { appendFileSync, closeSync, openSync, readSync, truncateSync } from "node:fs";
import type { Detection } from "@make-your-anchor/face";
import { writeError, writeFileAtomic } from "./files.ts";

/** Bytes that are read at once. */
const block = 1 << 20;

type Line = { frame: number; people: unknown } | { note: string; value: unknown };

export class DetectionLog {
  private readonly path: string;
  /** Bytes of the file. */
  private size = 0;
  /** Where the line of a frame is: first byte and length. */
  private readonly lines = new Map<number, readonly [number, number]>();
  private readonly notes = new Map<string, unknown>();

  /** Goes on with a file of that name where it is of the same; otherwise begins it anew. @param of names what the frames are of */
  constructor(path: string, of: string) {
    this.path = path;
    const head = JSON.stringify({ of });
    if (this.index(head)) return;
    writeFileAtomic(path, `${head}\n`);
    this.size = Buffer.byteLength(head) + 1;
  }
  /** Of a frame seen before. */
  known(frame: number): Detection | undefined {
    const at = this.lines.get(frame);
    if (!at) return undefined;
    const { people } = this.read(at) as Detection;
    return {
      people: people.map(({ face, body, ...rest }) => ({
        ...rest,
        face: face && { ...face, descriptor: face.descriptor && Float32Array.from(face.descriptor) },
        body: body.map((p) => p ?? undefined),
      })),
    };
  }
  add(frame: number, { people }: Detection): void {
    const plain = people.map(({ face, ...rest }) => ({
      ...rest,
      face: face && { ...face, descriptor: face.descriptor && Array.from(face.descriptor) },
    }));
    const from = this.size;
    this.append({ frame, people: plain });
    this.lines.set(frame, [from, this.size - from]);
  }
  /** What was noted under a name, of all frames. */
  noted(name: string): unknown {
    return this.notes.get(name);
  }
  /** @param value as JSON holds it */
  note(name: string, value: unknown): void {
    this.append({ note: name, value });
    this.notes.set(name, value);
  }

  private append(entry: Line): void {
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      appendFileSync(this.path, line);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
    this.size += line.length;
  }
  private read([from, length]: readonly [number, number]): unknown {
    const bytes = Buffer.alloc(length);
    const file = openSync(this.path, "r");
    try {
      readSync(file, bytes, 0, length, from);
    } finally {
      closeSync(file);
    }
    return JSON.parse(bytes.toString());
  }
  /** Finds the frames' lines; a last one that was cut short by a crash is cut off. @returns false where there is no file, or one of something else */
  private index(head: string): boolean {
    let file: number;
    try {
      file = openSync(this.path, "r");
    } catch {
      return false; // a place where none can be is named when it is written
    }
    try {
      const bytes = Buffer.alloc(block);
      let text = Buffer.alloc(0);
      for (let got = readSync(file, bytes); got > 0; got = readSync(file, bytes)) {
        text = Buffer.concat([text, bytes.subarray(0, got)]);
        let from = 0;
        for (let end = text.indexOf(10); end >= 0; end = text.indexOf(10, from)) {
          const line = text.toString("utf8", from, end);
          if (this.size > 0) this.take(line, end + 1 - from);
          else if (line !== head) return false;
          this.size += end + 1 - from;
          from = end + 1;
        }
        text = text.subarray(from);
      }
      if (this.size > 0 && text.length > 0) truncateSync(this.path, this.size);
    } finally {
      closeSync(file);
    }
    return this.size > 0;
  }
  private take(line: string, length: number): void {
    let entry: Line;
    try {
      entry = JSON.parse(line) as Line;
    } catch {
      return; // a disk that lost what it held: the frame is looked at again
    }
    if ("frame" in entry) this.lines.set(entry.frame, [this.size, length]);
    else this.notes.set(entry.note, entry.value);
  }
}
