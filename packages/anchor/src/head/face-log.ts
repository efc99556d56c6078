/** What became of the face in each frame of a video, one line a frame: `{"frame":0,"face":"found"}`. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import type { FaceState } from "@make-your-anchor/face";
import { writeError, writeFileAtomic } from "../files.ts";

export type FaceCounts = Partial<Record<FaceState, number>>;

export class FaceLog {
  readonly counts: FaceCounts = {};
  private readonly path: string;

  /** Goes on behind the first `frames` frames; what an interrupted run noted of later ones is dropped. */
  constructor(path: string, frames: number) {
    this.path = path;
    const lines = (frames > 0 && existsSync(path) ? readFileSync(path, "utf8") : "").split("\n").flatMap((line) => {
      try {
        const entry = JSON.parse(line) as { frame: number; face: FaceState };
        return entry.frame < frames ? [entry] : [];
      } catch {
        return []; // empty, or cut short by a crash
      }
    });
    for (const { face } of lines) this.count(face);
    writeFileAtomic(path, lines.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
  }
  private count(face: FaceState): void {
    this.counts[face] = (this.counts[face] ?? 0) + 1;
  }
  add(frame: number, face: FaceState): void {
    this.count(face);
    try {
      appendFileSync(this.path, `${JSON.stringify({ frame, face })}\n`);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }
}
