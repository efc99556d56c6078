/** Weights on disk, in any of the forms they are published in, as one source of named tensors. */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";
import {
  SafetensorsFile,
  TorchError,
  TorchFile,
  type LoadOptions,
  type Module,
  type StateDictSource,
  type Tensor,
} from "@make-your-anchor/torch";
import { readConfig } from "./config.ts";

/** Named tensors in open files; close it when the weights are loaded. */
export interface WeightsSource extends StateDictSource, Disposable {
  /** File or folder, for errors. */
  readonly path: string;
}

/** A file's weights, whatever its ending says: safetensors, or a checkpoint of Python torch. */
export function openWeightsFile(path: string): WeightsSource {
  const start = Buffer.alloc(48);
  let length: number;
  try {
    const fd = openSync(path, "r");
    try {
      length = readSync(fd, start, 0, start.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new TorchError("FILE", `${path}: cannot be read as a file of weights (${(cause as NodeJS.ErrnoException).code})`, { cause });
  }
  // A safetensors file starts with its header's length, then "{".
  const safetensors = path.endsWith(".safetensors") || (length > 8 && start[8] === 0x7b && start.readUInt32LE(4) === 0);
  if (/^(<|version https:\/\/git-lfs)/.test(start.toString("latin1", 0, length)))
    throw new TorchError(
      "FILE",
      `${path}: a web page or a Git LFS pointer, not weights: fetch the file itself ("git lfs pull", or anchor pull)`,
    );
  return safetensors ? new SafetensorsFile(path) : new TorchFile(path);
}

/** Several files as one; each holds some of the weights. */
class Shards implements WeightsSource {
  readonly path: string;
  private readonly files: readonly WeightsSource[];
  private readonly homes = new Map<string, WeightsSource>();

  constructor(path: string, weightMap: ReadonlyMap<string, string>) {
    this.path = path;
    const open = new Map<string, WeightsSource>();
    try {
      for (const [key, name] of weightMap) {
        const file = resolve(dirname(path), name);
        // An index is a download like any other: it must not point out of its folder.
        if (!file.startsWith(resolve(dirname(path)) + sep)) throw new TorchError("FILE", `${path}: ${name} lies outside its folder`);
        if (!open.has(name)) {
          if (!existsSync(file)) throw new TorchError("FILE", `${path}: ${name} is missing: fetch every part the index names`);
          open.set(name, openWeightsFile(file));
        }
        this.homes.set(key, open.get(name)!);
      }
      for (const [key, file] of this.homes)
        if (!new Set(file.keys()).has(key)) throw new TorchError("FILE", `${file.path}: ${key} is not in it, though ${path} says so`);
    } catch (error) {
      for (const file of open.values()) file[Symbol.dispose]();
      throw error;
    }
    this.files = [...open.values()];
  }
  keys(): Iterable<string> {
    return this.homes.keys();
  }
  private home(key: string): WeightsSource {
    const home = this.homes.get(key);
    if (!home) throw new TorchError("NO_KEY", `${this.path}: no tensor "${key}"`);
    return home;
  }
  shape(key: string): readonly number[] {
    return this.home(key).shape(key);
  }
  read(key: string): Tensor {
    return this.home(key).read(key);
  }
  [Symbol.dispose](): void {
    for (const file of this.files) file[Symbol.dispose]();
  }
}

function openIndex(path: string): WeightsSource {
  const map = readConfig(path).weight_map;
  const entries = typeof map === "object" && map !== null ? Object.entries(map) : [];
  if (entries.length === 0 || !entries.every(([, file]) => typeof file === "string"))
    throw new TorchError("FILE", `${path}: not an index of weights: it needs "weight_map", from names to files`);
  return new Shards(path, new Map(entries as [string, string][]));
}

/** Best first: safetensors before pickles, full precision before half. */
const stems = ["diffusion_pytorch_model", "model", "pytorch_model"] as const;
const variants = ["", ".fp16"] as const;
const weightNames: readonly string[] = variants.flatMap((v) => [
  ...stems.flatMap((s) => [`${s}${v}.safetensors`, `${s}.safetensors.index${v}.json`]),
  ...stems.flatMap((s) => [`${s}${v}.bin`, `${s}.bin.index${v}.json`, `${s}${v}.pth`]),
]);

/** The weights beside a config in a folder of diffusers or transformers. */
export function openWeightsFolder(folder: string): WeightsSource {
  const name = weightNames.find((n) => existsSync(join(folder, n)));
  if (!name)
    throw new TorchError(
      "FILE",
      `${folder}: no weights there (looked for ${stems.map((s) => `${s}.safetensors`).join(", ")}, their .bin and .pth forms and indexes); train the model first, or point at a complete folder`,
    );
  const path = join(folder, name);
  return name.endsWith(".json") ? openIndex(path) : openWeightsFile(path);
}

/** Loads the weights beside a config into `model`. */
export function loadWeights<M extends Module>(model: M, folder: string, options: LoadOptions = {}): M {
  using source = openWeightsFolder(folder);
  return model.loadStateDict(source, { what: source.path, ...options });
}
