/**
 * Weights as Python torch saves them (.bin, .pth, .pt, .ckpt): the zip archive of torch 1.6 and later, and the plain stream
 * before it. Only tensors and plain values are read; nothing in the file is ever run (see pickle.ts).
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { dtypeWidth, type DType } from "../dtype.ts";
import { TorchError } from "../errors.ts";
import { noGrad, scope } from "../scope.ts";
import type { StateDictSource } from "../nn/module.ts";
import type { Tensor } from "../tensor.ts";
import * as ops from "../ops.gen.ts";
import { ofKey, readTensor } from "./mapped.ts";
import { readPickle, type PickleDict, type PickleGlobal } from "./pickle.ts";
import { readZipDirectory } from "./zip-directory.ts";

const storages: Record<string, DType> = {
  FloatStorage: "float32",
  HalfStorage: "float16",
  BFloat16Storage: "bfloat16",
  DoubleStorage: "float64",
  LongStorage: "int64",
  IntStorage: "int32",
  ShortStorage: "int16",
  CharStorage: "int8",
  ByteStorage: "uint8",
  BoolStorage: "bool",
};
/** Names that published checkpoints mention beside weights; they come to nothing here. */
const inert = new Set([
  "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
  "pytorch_lightning.utilities.types._METRIC_COLLECTION",
  "numpy.core.multiarray.scalar",
  "numpy._core.multiarray.scalar",
  "numpy.dtype",
  "_codecs.encode",
]);
const legacyMagic = 0x1950a86a20f9469cfc6cn;
const legacyProtocol = 1001;
/** Names and shapes of every weight of SD 1.5 and its optimiser take less than a hundredth of this. */
const maxPickle = 64 << 20;

const whole = (x: unknown): x is number => typeof x === "number" && Number.isSafeInteger(x) && x >= 0;

/** Where a tensor's numbers lie. */
class TensorEntry {
  readonly storage: StorageEntry;
  /** In elements. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
  constructor(storage: StorageEntry, offset: number, shape: readonly number[], stride: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.stride = stride;
  }
}
/** A run of numbers that tensors are views of. */
class StorageEntry {
  readonly dtype: DType;
  readonly key: string;
  readonly numel: number;
  constructor(dtype: DType, key: string, numel: number) {
    this.dtype = dtype;
    this.key = key;
    this.numel = numel;
  }
}

/** An open checkpoint whose structure was checked whole; tensors are read one by one. */
export class TorchFile implements StateDictSource {
  readonly path: string;
  private readonly fd: number;
  private readonly entries = new Map<string, TensorEntry>();
  /** Storages by key, as the structure mentions them. */
  private readonly seen = new Map<string, StorageEntry>();
  /** Byte offset of each storage, and how many bytes it has. */
  private readonly places = new Map<string, { from: number; bytes: number }>();

  /**
   * @throws {TorchError} `CHECKPOINT` when the file is damaged or lies about its data, `PICKLE` when it holds anything but weights
   */
  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, "r");
    } catch (cause) {
      throw new TorchError("FILE", `${path}: cannot be opened (${(cause as NodeJS.ErrnoException).code})`, { cause });
    }
    try {
      const start = this.bytes(0, Math.min(4, fstatSync(this.fd).size));
      const value = start.length === 4 && start.readUInt32LE(0) === 0x04034b50 ? this.readArchive() : this.readLegacy();
      this.collect(value);
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  private readonly fail = (why: string): never => {
    throw new TorchError(
      "CHECKPOINT",
      `${this.path}: not a usable torch checkpoint: ${why}. Was the download cut short? Fetch it again, or take the safetensors version`,
    );
  };

  private bytes(from: number, length: number): Buffer {
    const out = Buffer.alloc(length);
    for (let done = 0; done < length;) {
      const n = readSync(this.fd, out, done, length - done, from + done);
      if (n === 0) this.fail("the file ended early");
      done += n;
    }
    return out;
  }

  private readArchive(): unknown {
    const members = readZipDirectory(this.fd, this.fail);
    const pickles = members.filter((m) => m.name.endsWith("/data.pkl") || m.name === "data.pkl");
    if (pickles.length !== 1) this.fail(`its archive holds ${pickles.length} data.pkl, not one`);
    const [pickle] = pickles;
    const prefix = pickle.name.slice(0, -"data.pkl".length);
    for (const m of members) {
      if (m.name.startsWith(`${prefix}data/`)) this.places.set(m.name.slice(prefix.length + 5), { from: m.from, bytes: m.to - m.from });
      if (m.name === `${prefix}byteorder` && this.bytes(m.from, Math.min(16, m.to - m.from)).toString() === "big")
        this.fail("its numbers are stored most significant byte first");
    }
    if (pickle.to - pickle.from > maxPickle) this.fail(`its structure takes ${pickle.to - pickle.from} bytes`);
    return this.unpickle(this.bytes(pickle.from, pickle.to - pickle.from)).value;
  }

  private readLegacy(): unknown {
    const size = fstatSync(this.fd).size;
    const head = this.bytes(0, Math.min(size, maxPickle));
    let at = 0;
    const next = () => {
      const { value, length } = this.unpickle(head.subarray(at));
      at += length;
      return value;
    };
    const magic = next();
    if (magic !== legacyMagic) this.fail("it begins neither as a zip archive nor as torch's older format");
    if (next() !== legacyProtocol) this.fail("an unknown version of torch's older format");
    const system = next();
    if (system instanceof Map && system.get("little_endian") === false) this.fail("its numbers are stored most significant byte first");
    const value = next();
    const keys = next();
    if (!Array.isArray(keys)) this.fail("its list of storages is missing");
    let from = at;
    for (const key of keys as unknown[]) {
      const storage = this.seen.get(String(key));
      if (!storage) this.fail(`storage ${String(key).slice(0, 40)} belongs to no tensor`);
      if (from + 8 > size) this.fail("the file ended early");
      const numel = Number(this.bytes(from, 8).readBigInt64LE(0));
      if (numel !== storage!.numel) this.fail(`storage ${storage!.key}: ${numel} values stored, ${storage!.numel} announced`);
      const bytes = numel * dtypeWidth(storage!.dtype);
      if (from + 8 + bytes > size) this.fail(`storage ${storage!.key}: ends at byte ${from + 8 + bytes}, the file has ${size}`);
      this.places.set(storage!.key, { from: from + 8, bytes });
      from += 8 + bytes;
    }
    return value;
  }

  private unpickle(bytes: Uint8Array): { value: unknown; length: number } {
    return readPickle(bytes, { what: this.path, global: (name) => this.global(name), persistent: (id) => this.storage(id) });
  }

  private global(name: string): PickleGlobal | undefined {
    const storage = /^torch(?:\.cuda)?\.(\w+Storage)$/.exec(name)?.[1];
    if (storage && storages[storage]) return { value: storages[storage] };
    switch (name) {
      case "collections.OrderedDict":
        return { call: (args) => new Map(args.length > 0 && Array.isArray(args[0]) ? (args[0] as [unknown, unknown][]) : []) };
      case "torch._utils._rebuild_tensor_v2":
      case "torch._utils._rebuild_tensor":
        return { call: (args) => this.tensor(args) };
      case "torch._utils._rebuild_parameter":
      case "torch._utils._rebuild_parameter_with_state":
        return { call: ([data]) => data };
      case "torch.Size":
        return { call: ([shape]) => shape };
    }
    return inert.has(name) ? { call: () => null } : undefined;
  }

  private storage(id: unknown): StorageEntry {
    if (!Array.isArray(id) || id.length < 5 || id[0] !== "storage") return this.fail("it refers to something other than a storage");
    const [, type, key, , numel] = id as [unknown, PickleGlobal, unknown, unknown, unknown];
    const dtype = type?.value;
    if (typeof dtype !== "string") return this.fail("a storage of unknown type");
    if (typeof key !== "string" && typeof key !== "number") return this.fail("a storage without a name");
    if (!whole(numel)) return this.fail(`storage ${String(key)}: ${String(numel)} values`);
    const storage = new StorageEntry(dtype as DType, String(key), numel);
    this.seen.set(storage.key, storage);
    return storage;
  }

  private tensor(args: readonly unknown[]): TensorEntry {
    const [storage, offset, shape, stride] = args;
    if (!(storage instanceof StorageEntry)) return this.fail("a tensor without a storage");
    const list = (x: unknown): x is number[] => Array.isArray(x) && x.length <= 16 && x.every(whole);
    if (!whole(offset) || !list(shape) || !list(stride) || shape.length !== stride.length)
      return this.fail(`a tensor of storage ${storage.key} with an impossible shape or place`);
    const empty = shape.includes(0);
    const last = empty ? offset : shape.reduce((at, n, i) => at + (n - 1) * stride[i], offset) + 1;
    if (last > storage.numel) return this.fail(`a tensor reaches element ${last} of storage ${storage.key}, which has ${storage.numel}`);
    return new TensorEntry(storage, offset, shape, stride);
  }

  /** Names of the weights: the dictionary itself, or the one under "state_dict" of a training checkpoint. */
  private collect(value: unknown): void {
    const inner = value instanceof Map ? ((value as PickleDict).get("state_dict") ?? value) : value;
    if (!(inner instanceof Map)) this.fail("it holds no dictionary of weights");
    for (const [key, entry] of inner as PickleDict) {
      // What is no tensor beside the weights (epoch, version) is not ours.
      if (typeof key !== "string" || !(entry instanceof TensorEntry)) continue;
      const place = this.places.get(entry.storage.key);
      if (!place) this.fail(`${key}: its storage ${entry.storage.key} is missing`);
      const bytes = entry.storage.numel * dtypeWidth(entry.storage.dtype);
      if (bytes > place!.bytes) this.fail(`${key}: its storage is to hold ${bytes} bytes, there are ${place!.bytes}`);
      this.entries.set(key, entry);
    }
    if (this.entries.size === 0) this.fail("it holds no tensors");
  }

  keys(): Iterable<string> {
    return this.entries.keys();
  }
  shape(key: string): readonly number[] {
    return ofKey(this.entries, key, this.path).shape;
  }
  /** The tensor in the file's own dtype, on the CPU; the caller owns it. */
  read(key: string): Tensor {
    const { storage, offset, shape, stride } = ofKey(this.entries, key, this.path);
    const width = dtypeWidth(storage.dtype);
    const from = this.places.get(storage.key)!.from + offset * width;
    const packed = shape.includes(0) || shape.every((n, i) => n === 1 || stride[i] === product(shape, i + 1));
    if (packed) return readTensor(this.fd, from, shape, storage.dtype);
    return scope(() =>
      noGrad(() => {
        const last = shape.reduce((at, n, i) => at + (n - 1) * stride[i], 0) + 1;
        return ops.as_strided(readTensor(this.fd, from, [last], storage.dtype), shape, stride).contiguous();
      }),
    );
  }
  close(): void {
    closeSync(this.fd);
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

const product = (shape: readonly number[], from: number): number => shape.slice(from).reduce((a, b) => a * b, 1);
