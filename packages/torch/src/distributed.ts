/** Several processes that work together, over torch's c10d (Gloo). */
import { TorchError } from "./errors.ts";
import { native } from "./native.ts";
import type { Tensor } from "./tensor.ts";

export interface GroupOptions {
  /** Which of the processes this is, 0 … worldSize − 1; 0 keeps the meeting point. */
  rank: number;
  worldSize: number;
  /** Where process 0 listens. */
  masterAddr: string;
  masterPort: number;
  /** Seconds after which a process that does not answer is given up; default 300. */
  timeout?: number;
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

/** All processes call the same methods in the same order. */
export class ProcessGroup {
  readonly rank: number;
  readonly worldSize: number;
  private readonly group: number;
  private closed = false;

  /** Returns when all processes have come. @throws {TorchError} `GROUP` where they do not come in time */
  constructor(o: GroupOptions) {
    this.rank = o.rank;
    this.worldSize = o.worldSize;
    try {
      this.group = native.openGroup(o.masterAddr, o.masterPort, o.rank, o.worldSize, o.timeout ?? 300);
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
