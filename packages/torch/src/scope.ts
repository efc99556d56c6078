/**
 * Who owns native memory. A tensor made inside `scope(fn)` is freed when `fn` ends, but for what it returns or was given to
 * `keep`. A tensor made outside any scope lives until `dispose()` (or the end of its `using` block); one that is forgotten is
 * freed when the garbage collector finds it and counted in `leakedTensors()`.
 */
import { native, type Handle } from "./native.ts";

export interface Owned {
  /** The addon's handle; 0 once disposed. */
  handle: Handle;
}

let current: Set<Owned> | undefined;
let leaked = 0;
const finalizer = new FinalizationRegistry<Handle>((handle) => {
  leaked++;
  native.free(handle);
});

/** Enters a new tensor into the running scope, or hands it to the garbage collector when there is none. */
export function own(t: Owned): void {
  if (current) current.add(t);
  else finalizer.register(t, t.handle, t);
}

export function release(t: Owned): void {
  if (t.handle === 0) return;
  finalizer.unregister(t);
  current?.delete(t);
  native.free(t.handle);
  t.handle = 0;
}

/** Takes a tensor out of every scope: its owner disposes it. Returns it. */
export function keep<T extends Owned>(t: T): T {
  for (let s = current; s; s = parents.get(s)) {
    if (s.delete(t)) {
      finalizer.register(t, t.handle, t);
      break;
    }
  }
  return t;
}

const parents = new WeakMap<Set<Owned>, Set<Owned>>();

function collect(value: unknown, out: Set<unknown>, depth = 0): void {
  if (value === null || typeof value !== "object" || depth > 4) return;
  if (typeof (value as Partial<Owned>).handle === "number") out.add(value);
  else if (Array.isArray(value)) for (const v of value) collect(v, out, depth + 1);
  else if (value instanceof Map) for (const v of value.values()) collect(v, out, depth + 1);
  else if (Object.getPrototypeOf(value) === Object.prototype) for (const v of Object.values(value)) collect(v, out, depth + 1);
}

/**
 * Runs `fn` and frees every tensor it made, even when it throws, but for those in its result (a tensor, or tensors in arrays,
 * maps and plain objects, up to four levels deep), which pass to the surrounding scope.
 *
 * `fn` must not be async: a scope belongs to one uninterrupted run. Await between scopes.
 */
export function scope<T>(fn: () => T): T {
  const outer = current;
  const mine = new Set<Owned>();
  if (outer) parents.set(mine, outer);
  current = mine;
  const kept = new Set<unknown>();
  try {
    const result = fn();
    collect(result, kept);
    return result;
  } finally {
    current = outer;
    const dead: Handle[] = [];
    for (const t of mine) {
      if (kept.has(t)) {
        own(t);
      } else if (t.handle !== 0) {
        dead.push(t.handle);
        t.handle = 0;
      }
    }
    if (dead.length > 0) native.free(dead);
  }
}

/** Runs `fn` without recording for gradients. */
export function noGrad<T>(fn: () => T): T {
  const before = native.gradEnabled(false);
  try {
    return fn();
  } finally {
    native.gradEnabled(before);
  }
}

/** Whether operations are being recorded for gradients. */
export const gradEnabled = (): boolean => native.gradEnabled();

/** How many tensors of this thread hold native memory. */
export const liveTensors = (): number => native.live();

/** How many tensors the garbage collector had to free, because nobody did. */
export const leakedTensors = (): number => leaked;
