/** One training in several processes: who does what. */
import { availableParallelism } from "node:os";
import { fromData, noGrad, scope, type ProcessGroup, type Tensor } from "@make-your-anchor/torch";
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
      const t = fromData(Float64Array.of(value), [1]);
      this.sum([t]);
      return t.item();
    });
  }
  /** The first process's numbers, in all; also a place where all wait for it. */
  follow(values: readonly number[]): number[] {
    if (!this.group) return values.slice();
    return scope(() => {
      const t = fromData(Float64Array.from(values), [values.length]);
      this.group!.broadcast([t]);
      return Array.from(t.data(), Number);
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

/** Threads of each of `n` processes on this machine. */
export const threadsOf = (n: number): number => Math.max(1, Math.floor(availableParallelism() / n));
