/** numpy's .npy and .npz files. Pickled members are never read: they could execute code. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { unzipSync, zipSync } from "fflate";
import { BodyError } from "../errors.ts";

export interface NpyArray {
  readonly shape: readonly number[];
  /** Row-major values; 64-bit whole numbers and halves are widened to doubles and floats. */
  readonly data: Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;
}

/** Largest array we unpack: a body model with all its pose correctives takes 61 MB. */
const maxBytes = 1 << 30;

export function parseNpy(bytes: Uint8Array, name: string): NpyArray {
  const fail = (why: string): never => {
    throw new BodyError("NPY", `${name}: not a usable numpy array: ${why}`);
  };
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 10 || head.toString("latin1", 0, 6) !== "\x93NUMPY") fail("it does not begin as one");
  const wide = bytes[6] >= 2;
  const start = wide ? 12 : 10;
  const length = wide ? head.readUInt32LE(8) : head.readUInt16LE(8);
  if (start + length > bytes.length) fail("the file is cut short");
  const text = head.toString("latin1", start, start + length);
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const fortran = /'fortran_order':\s*True/.test(text);
  const dims = /'shape':\s*\(([^)]*)\)/.exec(text)?.[1];
  if (!descr || dims === undefined) fail(`its header is not understood: ${text.slice(0, 80)}`);
  const shape = dims!.split(",").flatMap((s) => (s.trim() ? [Number(s)] : []));
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) fail(`shape (${dims})`);
  const count = shape.reduce((a, b) => a * b, 1);
  const [order, kind, size] = [descr![0], descr![1], Number(descr!.slice(2))];
  if (kind === "O") fail("it holds Python objects, which are not read because they can execute code");
  if (order === ">") fail("big-endian arrays are not supported; save it again with .astype('<f4')");
  const from = start + length;
  if (count * size > bytes.length - from) fail(`${count} values of ${size} bytes announced, ${bytes.length - from} bytes there`);
  const body = bytes.slice(from, from + count * size).buffer;
  let data: NpyArray["data"];
  switch (kind + size) {
    case "f4":
      data = new Float32Array(body);
      break;
    case "f8":
      data = new Float64Array(body);
      break;
    case "f2":
      data = Float32Array.from(new Uint16Array(body), halfToFloat);
      break;
    case "i4":
      data = new Int32Array(body);
      break;
    case "u4":
      data = new Uint32Array(body);
      break;
    case "i8":
      data = Float64Array.from(new BigInt64Array(body), Number);
      break;
    case "u8":
      data = Float64Array.from(new BigUint64Array(body), Number);
      break;
    case "i2":
      data = Int32Array.from(new Int16Array(body));
      break;
    case "u1":
    case "b1":
      data = new Uint8Array(body);
      break;
    default:
      return fail(`element type ${descr} is not supported`);
  }
  return { shape, data: fortran && shape.length > 1 ? toRowMajor(data, shape) : data };
}

function halfToFloat(h: number): number {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? Number.NaN
          : Number.POSITIVE_INFINITY
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return h & 0x8000 ? -magnitude : magnitude;
}

function toRowMajor<T extends NpyArray["data"]>(data: T, shape: readonly number[]): T {
  const out = data.slice() as T;
  const strides = shape.map((_, i) => shape.slice(0, i).reduce((a, b) => a * b, 1));
  const index = shape.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = data[index.reduce((s, x, k) => s + x * strides[k], 0)];
    for (let k = shape.length - 1; k >= 0 && ++index[k] === shape[k]; k--) index[k] = 0;
  }
  return out;
}

export function readNpy(path: string): NpyArray {
  return parseNpy(readBytes(path), path);
}

/** The arrays of an .npz, by name; `wanted` picks members (pickled ones must be left out or fail). */
export function readNpz(path: string, wanted: (name: string) => boolean = () => true): Map<string, NpyArray> {
  const bytes = readBytes(path);
  let files: Record<string, Uint8Array>;
  try {
    let total = 0;
    files = unzipSync(bytes, {
      filter: ({ name, originalSize }) => {
        if (!name.endsWith(".npy") || !wanted(name.slice(0, -4))) return false;
        total += originalSize;
        if (total > maxBytes) throw new BodyError("NPZ", `${path}: unpacks to more than ${maxBytes >> 20} MiB: not a body model or motion`);
        return true;
      },
    });
  } catch (cause) {
    if (cause instanceof BodyError) throw cause;
    throw new BodyError("NPZ", `${path}: not a usable .npz archive (${(cause as Error).message}). Was the download cut short?`, { cause });
  }
  return new Map(Object.entries(files).map(([name, data]) => [name.slice(0, -4), parseNpy(data, `${path}: ${name.slice(0, -4)}`)]));
}

function readBytes(path: string): Uint8Array {
  try {
    if (statSync(path).size > maxBytes) throw new BodyError("FILE", `${path}: larger than ${maxBytes >> 20} MiB`);
    return new Uint8Array(readFileSync(path));
  } catch (cause) {
    if (cause instanceof BodyError) throw cause;
    throw new BodyError("FILE", `${path}: cannot be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
  }
}

export function npyBytes({ shape, data }: NpyArray): Uint8Array {
  const descr =
    data instanceof Float32Array
      ? "<f4"
      : data instanceof Float64Array
        ? "<f8"
        : data instanceof Int32Array
          ? "<i4"
          : data instanceof Uint32Array
            ? "<u4"
            : "|u1";
  let header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  header += `${" ".repeat(63 - ((10 + header.length) % 64))}\n`;
  const out = new Uint8Array(10 + header.length + data.byteLength);
  out.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  out.set(Buffer.from(header, "latin1"), 10);
  out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + header.length);
  return out;
}

/** Writes an .npz atomically; the same arrays give the same bytes. */
export function writeNpz(path: string, arrays: ReadonlyMap<string, NpyArray>): void {
  const files = Object.fromEntries([...arrays].map(([name, a]) => [`${name}.npy`, npyBytes(a)]));
  const bytes = zipSync(files, { level: 6, mtime: new Date("2000-01-01T00:00:00") });
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const fd = openSync(temporary, "w");
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new BodyError(
      "WRITE",
      `${path}: cannot be written (${(cause as NodeJS.ErrnoException).code}). Is the disk full, or the folder not yours to write?`,
      { cause },
    );
  }
}
