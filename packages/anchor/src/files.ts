/** Atomic writes and reads of small files, with errors that name the way out. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { AnchorError } from "./errors.ts";

const reasons: Record<string, string> = {
  ENOSPC: "the disk is full: free some space and type the same command again, finished work is kept",
  EDQUOT: "your disk quota is used up: free some space and type the same command again, finished work is kept",
  EACCES: "you may not write there: choose another folder or change its permissions",
  EPERM: "you may not write there: choose another folder or change its permissions",
  EROFS: "that file system is read-only: choose another folder",
  ENOTDIR: "a part of that path is a file, not a folder",
};

export function writeError(path: string, cause: unknown): AnchorError {
  const code = (cause as NodeJS.ErrnoException).code ?? "unknown";
  return new AnchorError("WRITE", `${path}: cannot be written (${code}): ${reasons[code] ?? (cause as Error).message}`, { cause });
}

export function makeFolder(path: string): string {
  try {
    mkdirSync(path, { recursive: true });
    return path;
  } catch (cause) {
    throw writeError(path, (cause as NodeJS.ErrnoException).code === "ENOENT" ? whyNot(path, cause) : cause);
  }
}

/** Node's recursive mkdir says ENOENT where a file system is read-only; that of the first folder that is missing says what is wrong. */
function whyNot(path: string, cause: unknown): unknown {
  let first = resolve(path);
  while (!existsSync(dirname(first))) first = dirname(first);
  try {
    mkdirSync(first);
    return cause;
  } catch (reason) {
    return reason;
  }
}

/** The file appears whole or not at all. */
export function writeFileAtomic(path: string, content: string | Uint8Array): void {
  makeFolder(dirname(path));
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const fd = openSync(temporary, "w");
    try {
      const bytes = typeof content === "string" ? Buffer.from(content) : content;
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw writeError(path, cause);
  }
}

export const writeJson = (path: string, value: unknown): void => writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);

export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new AnchorError("FILE", `${path}: cannot be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AnchorError("FILE", `${path}: not valid JSON (${(cause as Error).message})`, { cause });
  }
}

/** Tells a file from another put in its place. */
export function fileStamp(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat ? `${path} ${stat.size} ${stat.mtimeMs}` : path;
}

/** `000001.png` of frame 0: files count from 1, as the original's do. */
export const frameName = (index: number): string => `${String(index + 1).padStart(6, "0")}.png`;

/** Picture files of a folder, in the order of their names. */
export function pictureFiles(folder: string): string[] {
  if (!existsSync(folder)) throw new AnchorError("FILE", `${folder}: no such folder`);
  const natural = new Intl.Collator("en", { numeric: true });
  return readdirSync(folder)
    .filter((f) => /\.(png|jpe?g|webp)$/i.test(f))
    .sort(natural.compare)
    .map((f) => join(folder, f));
}

/** Puts a finished folder in the place of another, which is there or not. */
export function replaceFolder(from: string, to: string): void {
  const old = `${to}.old`;
  rmSync(old, { recursive: true, force: true });
  if (existsSync(to)) renameSync(to, old);
  renameSync(from, to);
  rmSync(old, { recursive: true, force: true });
}
