/** Loads the addon: the one place that knows the .node file. */
import { createRequire } from "node:module";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { openBlasCore, processorFlags } from "./cpu.ts";
import type { GroupBackend } from "./distributed.ts";
import { TorchError } from "./errors.ts";
import { setupCommand } from "./setup-command.ts";

/** A tensor or generator as the addon knows it: slot and generation of a table. */
export type Handle = number;

export interface NativeInfo {
  /** libtorch's version, like `1.13.1`. */
  readonly version: string;
  readonly threads: number;
  readonly cuda: boolean;
}

export interface Native {
  info(): NativeInfo;
  setThreads(n: number): void;
  findOp(name: string, overload: string): number;
  schema(op: number): string;
  call(op: number, discard: boolean, ...args: unknown[]): unknown;
  gradEnabled(enabled?: boolean): boolean;
  /** Turns autocast on (a dtype's code) or off (−1); the state before. */
  autocast(kind: "cpu" | "cuda", dtype: number): number;
  /** What was allowed before. */
  allowTf32(convolutions: boolean, products: boolean): [boolean, boolean];
  cudaDevices(): number;
  /** Bytes: allocated, peak allocated, reserved, peak reserved; null where this libtorch cannot tell. */
  cudaMemory(device: number, reset: boolean): [number, number, number, number] | null;
  /** Kinds of groups of processes that this build can open. */
  groupBackends(): GroupBackend[];
  /** Waits for all of the group; a number that stands for it. Times in seconds. */
  openGroup(backend: string, host: string, port: number, rank: number, size: number, arrival: number, patience: number): number;
  allReduce(group: number, tensors: readonly Handle[]): void;
  broadcast(group: number, tensors: readonly Handle[], root: number): void;
  closeGroup(group: number): void;
  free(handles: Handle | Handle[]): void;
  live(): number;
  meta(t: Handle): number[];
  requiresGrad(t: Handle, set?: boolean): boolean;
  grad(t: Handle): Handle | null;
  setGrad(t: Handle, grad: Handle | null): void;
  create(shape: readonly number[], dtype: number): Handle;
  /** A tensor over a mapped file's bytes, private to the process. */
  mapFile(fd: number, from: number, shape: readonly number[], dtype: number): Handle;
  memory(t: Handle): ArrayBuffer;
  copyOut(t: Handle, into: ArrayBuffer): void;
  copyIn(t: Handle, from: NodeJS.TypedArray): void;
  createGenerator(seed: number, device: string): Handle;
  freeGenerator(g: Handle): void;
  generatorState(g: Handle, set?: Handle): Handle;
}

/** `ANCHOR_TORCH_ADDON` names another build of the addon. */
const addonPath = process.env.ANCHOR_TORCH_ADDON ?? fileURLToPath(new URL("../build/anchor_torch.node", import.meta.url));

function load(): Native {
  // Read by OpenMP when it is loaded, so set before. Spinning threads are the fastest on idle cores and ten times slower
  // beside one busy process (measured: docs/design/engine.md); passive waiting costs a tenth and holds up under load.
  process.env.OMP_WAIT_POLICY ??= "passive";
  process.env.GOMP_SPINCOUNT ??= "20000";
  const core = process.env.OPENBLAS_CORETYPE ?? openBlasCore(processorFlags());
  if (core) process.env.OPENBLAS_CORETYPE = core;
  if (!existsSync(addonPath)) {
    throw new TorchError(
      "ADDON_MISSING",
      `the libtorch addon is not built (${process.platform}-${process.arch}, looked for ${addonPath}): run "${setupCommand}"`,
    );
  }
  try {
    return createRequire(import.meta.url)(addonPath) as Native;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new TorchError(
      "ADDON_BROKEN",
      `the libtorch addon does not load (${why}): was libtorch removed or replaced since it was built? Run "${setupCommand}", which builds it again; tried ${addonPath}`,
      { cause },
    );
  }
}

export const native: Native = load();
// Some builds of libtorch start with one thread whatever the machine has.
if (!process.env.OMP_NUM_THREADS) native.setThreads(availableParallelism());

/** `[major, minor]` of the loaded libtorch. */
export const torchVersion: readonly [number, number] = (() => {
  const [major, minor] = native.info().version.split(".").map(Number);
  return [major, minor] as const;
})();
