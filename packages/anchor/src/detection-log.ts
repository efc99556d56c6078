/** What the detector saw, kept as it comes: a minute of footage takes it minutes, and an interruption is not to lose them. One line a frame. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import type { Detection } from "@make-your-anchor/face";
import { writeError, writeFileAtomic } from "./files.ts";

export class DetectionLog {
  private readonly path: string;
  private readonly found = new Map<number, Detection>();

  /** Goes on with a file of that name where it is of the same; otherwise begins it anew. @param of names what the frames are of, and how they are cut */
  constructor(path: string, of: string) {
    this.path = path;
    const head = JSON.stringify({ of });
    const [first, ...lines] = (existsSync(path) ? readFileSync(path, "utf8") : "").split("\n");
    const whole = first === head ? lines.filter((text) => this.take(text)) : [];
    writeFileAtomic(path, `${[head, ...whole].join("\n")}\n`);
  }
  /** Of a frame seen before. */
  known(frame: number): Detection | undefined {
    return this.found.get(frame);
  }
  add(frame: number, { people }: Detection): void {
    const plain = people.map(({ face, ...rest }) => ({
      ...rest,
      face: face && { ...face, descriptor: face.descriptor && Array.from(face.descriptor) },
    }));
    try {
      appendFileSync(this.path, `${JSON.stringify({ frame, people: plain })}\n`);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }
  /** @returns false for a line that is empty, or was cut short by a crash */
  private take(text: string): boolean {
    let entry: { frame: number } & Detection;
    try {
      entry = JSON.parse(text) as typeof entry;
    } catch {
      return false;
    }
    const people = entry.people.map(({ face, body, ...rest }) => ({
      ...rest,
      face: face && { ...face, descriptor: face.descriptor && Float32Array.from(face.descriptor) },
      body: body.map((p) => p ?? undefined),
    }));
    this.found.set(entry.frame, { people });
    return true;
  }
}
