/** Frames on the disk instead of in memory. */
import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, writeError } from "./files.ts";

/** Frames of one size in a file that has no name any more: it is gone with its owner, however that ends. */
export class FrameFile implements Disposable {
  private readonly path: string;
  private readonly fd: number;
  private readonly bytes: number;

  /**
   * @param folder where there is room for them
   * @param size side of a frame, pixels
   */
  constructor(folder: string, size: number) {
    this.path = join(makeFolder(folder), `frames.${process.pid}.tmp`);
    this.bytes = 3 * size * size;
    try {
      // What another process of this number left must not be written through.
      rmSync(this.path, { force: true });
      this.fd = openSync(this.path, "wx+", 0o600);
      rmSync(this.path);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** @param planes `[3, H, W]` bytes */
  set(index: number, planes: Uint8Array): void {
    if (planes.length !== this.bytes) throw new RangeError(`expected a frame of ${this.bytes} bytes, got ${planes.length}`);
    try {
      for (let done = 0; done < this.bytes;) done += writeSync(this.fd, planes, done, this.bytes - done, index * this.bytes + done);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** A copy, `[3, H, W]` bytes. */
  get(index: number): Uint8Array {
    const planes = new Uint8Array(this.bytes);
    for (let done = 0; done < this.bytes;) {
      const read = readSync(this.fd, planes, done, this.bytes - done, index * this.bytes + done);
      if (read === 0) throw new RangeError(`frame ${index} was never kept`);
      done += read;
    }
    return planes;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
