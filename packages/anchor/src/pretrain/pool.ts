/** The people a pre-training step draws from: a changing few dozen of an endless stream. */
import { PeopleStream } from "../people/stream.ts";
import type { FilmedPerson, PeopleWork } from "../people/film.ts";
import type { WorkOptions } from "../progress.ts";

/** People without end, always in the same order. */
export interface PeopleSource {
  take(): Promise<FilmedPerson>;
  close(): Promise<void>;
}

export interface PoolOptions<Entry> extends WorkOptions {
  /** @param first who comes first, counted from 0 */
  source: (first: number) => PeopleSource;
  /** People held at once. */
  people: number;
  /** Steps after which the oldest of them goes and a new one comes. */
  stay: number;
  /** The first of the stream's people that comes. Default 0. */
  first?: number;
  /** What is kept of a person; null leaves them out. */
  prepare: (person: FilmedPerson) => Entry;
  release?: (entry: Entry) => void;
}

/** Made-up ones. */
export const madeUp =
  (work: PeopleWork, workers?: number) =>
  (first: number): PeopleSource =>
    new PeopleStream(work, first, { workers });

/** Which people are there depends on the step alone, so that a run which was interrupted goes on with the same ones. */
export class PeoplePool<Entry> {
  private readonly o: PoolOptions<Entry>;
  private readonly stream: PeopleSource;
  private readonly entries: Entry[] = [];
  private come = 0;

  constructor(o: PoolOptions<Entry>, step: number) {
    this.o = o;
    this.come = Math.floor(step / o.stay);
    this.stream = o.source((o.first ?? 0) + this.come);
  }
  /** The people of a step; steps are asked for in order. Until the first are all there it reports them, and stops when asked to. */
  async at(step: number): Promise<readonly Entry[]> {
    const { people, stay, prepare, release, signal, onProgress } = this.o;
    const until = Math.floor(step / stay) + people;
    // The first people take minutes to draw, and no step is lost by stopping before they are all there.
    const first = this.entries.length === 0;
    while (this.come < until) {
      if (first) signal?.throwIfAborted();
      const entry = prepare(await this.stream.take());
      if (first) onProgress?.({ stage: "drawing people to begin with", done: this.come + people - until + 1, total: people });
      const place = this.come % people;
      const old = this.entries[place];
      if (old !== undefined) release?.(old);
      this.entries[place] = entry;
      this.come++;
    }
    return this.entries;
  }
  /** Those who are there now. */
  present(): readonly Entry[] {
    return this.entries;
  }
  async close(): Promise<void> {
    await this.stream.close();
    for (const e of this.entries) if (e !== undefined) this.o.release?.(e);
  }
}
