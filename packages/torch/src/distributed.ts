/** Several processes that work together, over torch's c10d: Gloo for tensors on the CPU, NCCL for those on GPUs. */
import { TorchError } from "./errors.ts";
import { setupCommand } from "./setup-command.ts";
import { native } from "./native.ts";
import type { Tensor } from "./tensor.ts";

export type GroupBackend = "gloo" | "nccl";

export interface GroupOptions {
  /** Default gloo. NCCL wants a GPU for each process. */
  backend?: GroupBackend;
  /** Where this process's tensors are; default `"cpu"`, with NCCL `"cuda:0"`. */
  device?: string;
  /** Which of the processes this is, 0 … worldSize − 1; 0 keeps the meeting point. */
  rank: number;
  worldSize: number;
  /** Where process 0 listens. */
  masterAddr: string;
  masterPort: number;
  /** Seconds until all have to have come; default 300. */
  timeout?: number;
  /**
   * Seconds to wait for the others inside, while one of them may be busy by itself; default 3600. Gloo notices a process that ended at once; so
   * does NCCL between machines, and within one it waits as long as this.
   */
  patience?: number;
}

/** The usual variables: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. Undefined where WORLD_SIZE is not set or 1. @throws {TorchError} */
export function groupFromEnvironment(env: Record<string, string | undefined> = process.env): GroupOptions | undefined {
  const worldSize = Number(env.WORLD_SIZE ?? 1);
  if (worldSize === 1) return undefined;
  const [rank, masterPort] = [Number(env.RANK), Number(env.MASTER_PORT ?? 29500)];
  if (!(
    Number.isInteger(worldSize) &&
    worldSize > 1 &&
    Number.isInteger(rank) &&
    rank >= 0 &&
    rank < worldSize &&
    masterPort > 0 &&
    masterPort < 65536
  ))
    throw new TorchError(
      "GROUP",
      `WORLD_SIZE=${env.WORLD_SIZE} RANK=${env.RANK} MASTER_PORT=${env.MASTER_PORT}: expected a size above 1, a rank from 0 to below it, and a port`,
    );
  return { rank, worldSize, masterAddr: env.MASTER_ADDR ?? "127.0.0.1", masterPort };
}

/** Those that this engine was built with. */
export const groupBackends = (): readonly GroupBackend[] => native.groupBackends();

const lacks: Record<GroupBackend, string> = {
  gloo: `Gloo: it comes with the system's libtorch and Gloo's headers (Debian: libtorch-dev libgloo-dev, then "${setupCommand}"), not with Python's`,
  nccl: `NCCL: it comes with a libtorch for CUDA where nccl.h and CUDA's headers are found when the engine is built, as beside Python's torch ("LIBTORCH_USE_PYTORCH=1 ${setupCommand}")`,
};

/** All processes call the same methods in the same order. */
export class ProcessGroup {
  readonly backend: GroupBackend;
  readonly device: string;
  readonly rank: number;
  readonly worldSize: number;
  private readonly group: number;
  private closed = false;

  /** Returns when all processes have come. @throws {TorchError} `GROUP` where they do not come in time, or this build has no such backend */
  constructor(o: GroupOptions) {
    this.backend = o.backend ?? "gloo";
    this.device = o.device ?? (this.backend === "nccl" ? "cuda:0" : "cpu");
    if (!groupBackends().includes(this.backend))
      throw new TorchError("GROUP", `this engine was built without c10d's ${lacks[this.backend]}`);
    this.rank = o.rank;
    this.worldSize = o.worldSize;
    try {
      this.group = native.openGroup(this.backend, o.masterAddr, o.masterPort, o.rank, o.worldSize, o.timeout ?? 300, o.patience ?? 3600);
    } catch (cause) {
      throw this.failed(cause);
    }
  }
  /** Each tensor becomes the sum of all processes' own, in place; of one dtype, on one device. */
  allReduce(tensors: readonly Tensor[]): void {
    this.run(() =>
      native.allReduce(
        this.group,
        tensors.map((t) => t.handle),
      ),
    );
  }
  /** The others' tensors become `root`'s, in place. */
  broadcast(tensors: readonly Tensor[], root = 0): void {
    this.run(() =>
      native.broadcast(
        this.group,
        tensors.map((t) => t.handle),
        root,
      ),
    );
  }
  close(): void {
    if (!this.closed) native.closeGroup(this.group);
    this.closed = true;
  }
  [Symbol.dispose](): void {
    this.close();
  }
  private run(work: () => void): void {
    try {
      work();
    } catch (cause) {
      throw this.failed(cause);
    }
  }
  private failed(cause: unknown): TorchError {
    const why = (cause as Error).message.split("\n")[0];
    return new TorchError("GROUP", `process ${this.rank} of ${this.worldSize} lost the others (${why}): did one of them end?`, { cause });
  }
}
