/** Things of which so many are kept. */

/**
 * Things that are made when they are first asked for. So many of them are kept; the others are made each time, so that memory does not grow with how many
 * there are. Those that came first stay: of things asked for in turns, each as often as any other, no choice would be found more often.
 */
export class Kept<T> implements Disposable {
  private readonly known = new Map<number, T>();
  private readonly most: number;
  private readonly make: (key: number) => Promise<T>;
  private readonly release: (thing: T) => void;

  constructor(most: number, make: (key: number) => Promise<T>, release: (thing: T) => void) {
    this.most = most;
    this.make = make;
    this.release = release;
  }

  /** What `then` makes of the things; it must not keep them. */
  async use<R>(keys: readonly number[], then: (things: readonly T[]) => R): Promise<R> {
    const passing: T[] = [];
    try {
      const things: T[] = [];
      for (const key of keys) {
        let thing = this.known.get(key);
        if (!thing) {
          thing = await this.make(key);
          if (this.known.size < this.most) this.known.set(key, thing);
          else passing.push(thing);
        }
        things.push(thing);
      }
      return then(things);
    } finally {
      passing.forEach(this.release);
    }
  }

  [Symbol.dispose](): void {
    for (const thing of this.known.values()) this.release(thing);
    this.known.clear();
  }
}
