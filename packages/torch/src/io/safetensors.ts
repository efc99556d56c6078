/** safetensors files (github.com/huggingface/safetensors): 8 bytes of header length, a JSON header, the data. */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { dtypeWidth, type DType } from "../dtype.ts";
import { TorchError } from "../errors.ts";
import { noGrad, scope } from "../scope.ts";
import type { StateDictSource } from "../nn/module.ts";
import type { Tensor } from "../tensor.ts";
import { ofKey, readTensor } from "./mapped.ts";

const fromFile: Record<string, DType> = {
  BOOL: "bool",
  U8: "uint8",
  I8: "int8",
  I16: "int16",
  I32: "int32",
  I64: "int64",
  F16: "float16",
  BF16: "bfloat16",
  F32: "float32",
  F64: "float64",
};
const toFile = Object.fromEntries(Object.entries(fromFile).map(([k, v]) => [v, k])) as Record<DType, string>;

/** The format's own limit on its header. */
const maxHeader = 100_000_000;

export interface TensorInfo {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Byte offsets in the file. */
  readonly from: number;
  readonly to: number;
}

/** An open file whose header was checked whole; tensors are read one by one. */
export class SafetensorsFile implements StateDictSource {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  private readonly infos = new Map<string, TensorInfo>();
  private fd: number;

  /** @throws {TorchError} `SAFETENSORS` when the file is not whole or its header lies about the data */
  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, "r");
    } catch (cause) {
      throw new TorchError("FILE", `${path}: cannot be opened (${(cause as NodeJS.ErrnoException).code})`, { cause });
    }
    try {
      this.metadata = this.readHeader();
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  private fail(why: string): never {
    throw new TorchError(
      "SAFETENSORS",
      `${this.path}: not a usable safetensors file: ${why}. Was the download or the write cut short? Fetch or save it again`,
    );
  }

  private readHeader(): Record<string, string> {
    const size = fstatSync(this.fd).size;
    if (size < 8) this.fail(`${size} bytes, less than the 8 of the header's length`);
    const start = Buffer.alloc(8);
    readSync(this.fd, start, 0, 8, 0);
    const length = Number(start.readBigUInt64LE());
    if (length > maxHeader) this.fail(`a header of ${length} bytes is claimed, the format allows ${maxHeader}`);
    if (8 + length > size) this.fail(`a header of ${length} bytes is claimed, the file has ${size} in all`);
    const text = Buffer.alloc(length);
    readSync(this.fd, text, 0, length, 8);
    let header: unknown;
    try {
      header = JSON.parse(text.toString("utf8"));
    } catch {
      this.fail("its header is not JSON");
    }
    if (typeof header !== "object" || header === null || Array.isArray(header)) this.fail("its header is not an object");
    let metadata: Record<string, string> = {};
    const spans: { name: string; from: number; to: number }[] = [];
    for (const [name, entry] of Object.entries(header as Record<string, unknown>)) {
      if (name === "__metadata__") {
        metadata = Object.fromEntries(Object.entries((entry ?? {}) as Record<string, unknown>).map(([k, v]) => [k, String(v)]));
        continue;
      }
      const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
      const type = typeof dtype === "string" ? fromFile[dtype] : undefined;
      if (!type) this.fail(`${name}: unknown dtype ${JSON.stringify(dtype)}`);
      const whole = (x: unknown): x is number => typeof x === "number" && Number.isSafeInteger(x) && x >= 0;
      if (!Array.isArray(shape) || !shape.every(whole)) this.fail(`${name}: shape ${JSON.stringify(shape)?.slice(0, 80)}`);
      if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole))
        this.fail(`${name}: data_offsets ${JSON.stringify(offsets)?.slice(0, 80)}`);
      const bytes = (shape as number[]).reduce((a, b) => a * b, 1) * dtypeWidth(type);
      const [from, to] = [8 + length + offsets[0], 8 + length + offsets[1]];
      if (to - from !== bytes) this.fail(`${name}: ${to - from} bytes of data for ${bytes} of ${dtype} [${shape.join(", ")}]`);
      if (to > size) this.fail(`${name}: its data ends at byte ${to}, the file has ${size}`);
      this.infos.set(name, { dtype: type, shape: shape as number[], from, to });
      spans.push({ name, from, to });
    }
    spans.sort((a, b) => a.from - b.from || a.to - b.to);
    for (let i = 1; i < spans.length; i++)
      if (spans[i].from < spans[i - 1].to) this.fail(`${spans[i].name} and ${spans[i - 1].name} share bytes`);
    return metadata;
  }

  keys(): Iterable<string> {
    return this.infos.keys();
  }
  has(key: string): boolean {
    return this.infos.has(key);
  }
  info(key: string): TensorInfo {
    return ofKey(this.infos, key, this.path);
  }
  shape(key: string): readonly number[] {
    return this.info(key).shape;
  }
  /** The tensor in the file's own dtype, on the CPU; the caller owns it. */
  read(key: string): Tensor {
    const { from, shape, dtype } = this.info(key);
    return readTensor(this.fd, from, shape, dtype);
  }
  close(): void {
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Every tensor of a file, by name. The caller owns them. */
export function loadSafetensors(path: string): Map<string, Tensor> {
  using file = new SafetensorsFile(path);
  return new Map([...file.keys()].map((key) => [key, file.read(key)]));
}

/** Writes tensors to `path`, atomically: a file of that name is replaced whole or not at all. */
export function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = { format: "pt" },
): void {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let at = 0;
  for (const [name, t] of tensors) {
    const bytes = t.numel * dtypeWidth(t.dtype);
    header[name] = { dtype: toFile[t.dtype], shape: t.shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8); // data starts aligned
  const start = Buffer.alloc(8 + Buffer.byteLength(text));
  start.writeBigUInt64LE(BigInt(start.length - 8));
  start.write(text, 8);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const fd = openSync(temporary, "w");
    try {
      writeAll(fd, start);
      for (const t of tensors.values()) {
        scope(() => noGrad(() => writeAll(fd, t.detach().to("cpu").contiguous().memory())));
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    rmSync(temporary, { force: true });
    throw Object.assign(error as Error, { path }); // the system names no file where a write to an open one fails
  }
  renameSync(temporary, path);
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, Math.min(bytes.length - done, 1 << 30));
}
