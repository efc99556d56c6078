/** Samples that cannot be read: a training stops at the first, or leaves them out and counts them. */
import { setImmediate as breathe } from "node:timers/promises";
import { AnchorError } from "../errors.ts";

/** How many of the samples may be left out before that is a broken data set rather than a few bad pictures. */
const largestShare = 0.25;

export class Skipped {
  private readonly allowed: boolean;
  private readonly reasons = new Map<number, string>();

  /** @param allowed otherwise the first bad sample's error is thrown on */
  constructor(allowed: boolean) {
    this.allowed = allowed;
  }
  /** One sentence each. */
  get all(): string[] {
    return [...this.reasons.values()];
  }
  /** @param count samples there are in all */
  private add(place: number, error: unknown, count: number): void {
    if (!this.allowed || (error as Error).name === "AbortError") throw error;
    this.reasons.set(place, (error as Error).message);
    if (this.reasons.size > largestShare * count)
      throw new AnchorError(
        "BAD_DATA",
        `${this.reasons.size} of ${count} pictures cannot be used, more than --skip-bad leaves out; the last one: ${(error as Error).message}`,
        { cause: error },
      );
  }

  /** Those of the places that can be read. */
  async readable(places: readonly number[], read: (place: number) => Promise<unknown>): Promise<number[]> {
    const good: number[] = [];
    for (const place of places) {
      try {
        await read(place);
        good.push(place);
      } catch (error) {
        this.add(place, error, places.length);
      }
    }
    return good;
  }

  /** `make` for the places, those that cannot be read replaced by the next that can; a bad one is found once. */
  async with<T extends object>(
    places: readonly number[],
    count: number,
    make: (places: readonly number[]) => Promise<T>,
    release: (made: T) => void,
  ): Promise<T> {
    for (;;) {
      const good = places.map((place) => {
        let p = place;
        while (this.reasons.has(p)) p = (p + 1) % count;
        return p;
      });
      try {
        return await make(good);
      } catch (error) {
        const known = this.reasons.size;
        for (const place of new Set(good)) {
          try {
            release(await make([place]));
          } catch (own) {
            this.add(place, own, count);
          }
        }
        if (this.reasons.size === known) throw error;
        await breathe();
      }
    }
  }
}
