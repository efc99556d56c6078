/** One training in several processes: who does what. */
import { availableParallelism } from "node:os";
import { cudaDevices, fromData, noGrad, scope, type GroupBackend, type ProcessGroup, type Tensor } from "@make-your-anchor/torch";
import { chooseCompute } from "../compute.ts";
import { AnchorError } from "../errors.ts";

/** Of a batch, in its order. */
export interface Slice {
  from: number;
  count: number;
}

/** Every process computes its share of each batch; gradients are added up, so all hold the same weights. The first writes, the others follow it. */
export class Processes {
  private readonly group: ProcessGroup | undefined;

  constructor(group?: ProcessGroup) {
    this.group = group;
  }
  get count(): number {
    return this.group?.worldSize ?? 1;
  }
  /** Whether this one writes, logs and decides. */
  get main(): boolean {
    return (this.group?.rank ?? 0) === 0;
  }
  /** This process's share of a batch. @throws {AnchorError} `OPTION` where there is nothing for some */
  slice(batch: number): Slice {
    const { count, group } = this;
    if (batch < count)
      throw new AnchorError("OPTION", `a batch of ${batch} is too small for ${count} processes: raise --batch or use fewer`, {
        misuse: true,
      });
    const rank = group?.rank ?? 0;
    const from = Math.floor((batch * rank) / count);
    return { from, count: Math.floor((batch * (rank + 1)) / count) - from };
  }
  /** Adds up over the processes, in place. */
  sum(tensors: readonly Tensor[]): void {
    if (this.group && tensors.length > 0) noGrad(() => this.group!.allReduce(tensors));
  }
  sumOf(value: number): number {
    if (!this.group) return value;
    return scope(() => {
      const t = fromData(Float64Array.of(value), [1]).to(this.group!.device);
      this.sum([t]);
      return t.item();
    });
  }
  /** The first process's numbers, in all; also a place where all wait for it. */
  follow(values: readonly number[]): number[] {
    if (!this.group) return values.slice();
    return scope(() => {
      const t = fromData(Float64Array.from(values), [values.length]).to(this.group!.device);
      this.group!.broadcast([t]);
      return Array.from(t.to("cpu").data(), Number);
    });
  }
  /** The first does it before the others do. */
  async mainFirst<T>(work: () => T | Promise<T>): Promise<T> {
    if (!this.group) return work();
    let failure: unknown;
    let made: T | undefined;
    if (this.main) {
      try {
        made = await work();
      } catch (error) {
        failure = error;
      }
    }
    const [failed] = this.follow([failure === undefined ? 0 : 1]);
    if (failure !== undefined) throw failure;
    if (failed) throw new AnchorError("GROUP", "the first process gave up; its message says why");
    return this.main ? made! : work();
  }
}

/**
 * What each of several processes computes on, and how they reach one another: Gloo on the CPU; a GPU of its own for each, and NCCL.
 * @param device as `ComputeOptions` has it, but for `cuda:N`
 * @param here   this one's place among the `count` processes on this machine, from 0
 * @throws {AnchorError} `OPTION` where there are fewer GPUs than processes
 */
export function shareDevices(device: string | undefined, here: number, count: number): { backend: GroupBackend; device: string } {
  const { device: chosen } = chooseCompute({ device }, "training");
  if (chosen === "cpu") return { backend: "gloo", device: "cpu" };
  const asked = device ?? process.env.ANCHOR_DEVICE;
  const misuse = (message: string) => new AnchorError("OPTION", message, { misuse: true });
  if (asked?.startsWith("cuda:")) throw misuse(`device ${asked}: each of several processes takes a GPU of its own: expected cuda or cpu`);
  const gpus = cudaDevices();
  if (count > gpus)
    throw misuse(
      `${count} processes want as many GPUs, and this machine has ${gpus}: ask for fewer, or for the device cpu (where several machines share the work, LOCAL_RANK says which of its own each is)`,
    );
  return { backend: "nccl", device: `cuda:${here}` };
}

/** Threads of each of `n` processes on this machine. */
export const threadsOf = (n: number): number => Math.max(1, Math.floor(availableParallelism() / n));
