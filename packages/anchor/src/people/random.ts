/** Seeded random numbers for what is made up by code: they must not depend on libtorch's version. */

/** Uniform numbers in [0, 1) (mulberry32). */
export function uniform(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Draws for making things up. */
export class Dice {
  private readonly next: () => number;

  constructor(seed: number) {
    // Seeds that follow each other start far apart.
    this.next = uniform(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ (seed >>> 3));
  }
  /** In [from, to). */
  range(from: number, to: number): number {
    return from + (to - from) * this.next();
  }
  /** Normal, cut at two and a half deviations. */
  normal(mean = 0, deviation = 1): number {
    const z = Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return mean + deviation * Math.max(-2.5, Math.min(2.5, z));
  }
  chance(p: number): boolean {
    return this.next() < p;
  }
  /** A whole number below `n`. */
  below(n: number): number {
    return Math.floor(n * this.next());
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }
  seed(): number {
    return this.below(2 ** 31);
  }
}

/** From 0 to 1 without a jolt at either end. */
export const eased = (x: number): number => x * x * (3 - 2 * x);

/** Smooth random walk between key values, one about every `period` seconds; −1..1. Asked for any time, in any order. */
export function wander(random: () => number, period: number): (t: number) => number {
  const keys: number[] = [];
  return (t) => {
    const i = Math.floor(t / period);
    while (keys.length <= i + 1) keys.push(random() * 2 - 1);
    const x = t / period - i;
    const s = eased(x);
    return keys[i] * (1 - s) + keys[i + 1] * s;
  };
}
