/** A file's bytes as a tensor. */
import { readSync } from "node:fs";
import { dtypeCode, dtypeWidth, type DType } from "../dtype.ts";
import { empty } from "../create.ts";
import { TorchError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";

/** Below this a read is cheaper than a mapping's bookkeeping. */
const smallestMapped = 64 << 10;

/**
 * The numbers at byte `from` of an open file, on the CPU; the caller owns the tensor. Large ones are mapped: pages are read when
 * they are first used, shared with the system's cache, and copied only where they are written to; the file never changes. A
 * mapped file must not be cut short by others while the tensor lives (replacing it by renaming, as all our writers do, is safe).
 */
export function readTensor(fd: number, from: number, shape: readonly number[], dtype: DType): Tensor {
  const width = dtypeWidth(dtype);
  const bytes = shape.reduce((a, b) => a * b, 1) * width;
  if (bytes >= smallestMapped && from % width === 0) return Tensor.fromHandle(native.mapFile(fd, from, shape, dtypeCode(dtype)));
  const t = empty(shape, dtype);
  const memory = t.memory();
  for (let done = 0; done < memory.length;) {
    const n = readSync(fd, memory, done, memory.length - done, from + done);
    if (n === 0) {
      t.dispose();
      throw new TorchError("FILE", "the file ended early: was it replaced while it was read?");
    }
    done += n;
  }
  return t;
}

/** What a file of tensors tells about one of them. @throws {TorchError} `NO_KEY` */
export function ofKey<T>(entries: ReadonlyMap<string, T>, key: string, path: string): T {
  const entry = entries.get(key);
  if (entry === undefined)
    throw new TorchError(
      "NO_KEY",
      `${path}: no tensor "${key}"; it holds ${entries.size}: ${[...entries.keys()].slice(0, 5).join(", ")}, …`,
    );
  return entry;
}
