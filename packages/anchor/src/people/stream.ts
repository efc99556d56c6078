/** Made-up people without end, drawn in other threads while training goes on; the same ones in the same order every time. */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { AnchorError } from "../errors.ts";
import type { FilmedPerson, PeopleWork } from "./film.ts";

/**
 * People's seeds: training takes the even ones, measuring the odd ones, so that nobody is measured on who was learnt from.
 * @param k counts from 0
 */
export const trainingSeed = (k: number): number => 2 * k;
export const measuringSeed = (k: number): number => 2 * k + 1;

export class PeopleStream {
  private readonly workers: Worker[];
  private readonly waiting = new Map<
    number,
    { promise: Promise<FilmedPerson>; resolve: (p: FilmedPerson) => void; reject: (e: Error) => void }
  >();
  private asked = 0;
  private next: number;
  private readonly ahead: number;

  /**
   * @param first the person to begin with, counting from 0
   * @param o.ahead people drawn before they are asked for
   */
  constructor(work: PeopleWork, first = 0, o: { workers?: number; ahead?: number } = {}) {
    this.next = first;
    this.asked = first;
    this.ahead = o.ahead ?? 6;
    this.workers = Array.from(
      { length: o.workers ?? 1 },
      () => new Worker(new URL(`./stream-worker${extname(import.meta.url)}`, import.meta.url), { workerData: work }),
    );
    for (const worker of this.workers) {
      worker.on("message", ({ seed, filmed, error }: { seed: number; filmed?: FilmedPerson; error?: string }) => {
        const w = this.waiting.get(seed);
        if (filmed) w?.resolve(filmed);
        else w?.reject(new AnchorError("PEOPLE", `the made-up person ${seed} could not be drawn: ${error}`));
      });
      worker.on("error", (cause) => {
        for (const w of this.waiting.values())
          w.reject(
            new AnchorError(
              "PEOPLE",
              `the thread that draws people could not run (${cause.message}); install the npm packages again to repair it`,
              { cause },
            ),
          );
      });
      worker.unref();
    }
  }

  /** The next person; waits where drawing has fallen behind. */
  async take(): Promise<FilmedPerson> {
    while (this.asked <= this.next + this.ahead) {
      const seed = trainingSeed(this.asked);
      const pending = Promise.withResolvers<FilmedPerson>();
      pending.promise.catch(() => {}); // reported to who takes it
      this.waiting.set(seed, pending);
      this.workers[this.asked % this.workers.length].postMessage(seed);
      this.asked++;
    }
    const seed = trainingSeed(this.next++);
    const { promise } = this.waiting.get(seed)!;
    // A thread at work keeps the process alive only while somebody waits.
    for (const w of this.workers) w.ref();
    try {
      return await promise;
    } finally {
      this.waiting.delete(seed);
      for (const w of this.workers) w.unref();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((w) => w.terminate()));
  }
}
