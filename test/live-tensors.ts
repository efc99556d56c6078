/** Counting live tensors in tests, whatever earlier tests left to the garbage collector. */
import { setTimeout as wait } from "node:timers/promises";
import { leakedTensors, liveTensors } from "@make-your-anchor/torch";

/**
 * Collects garbage until nothing more is freed. Code under test leaves nothing behind when `live` and `leaked` are the same
 * before and after it: what it forgot would be live, or would have been freed by the collector and counted.
 */
export async function settledTensors(): Promise<{ live: number; leaked: number }> {
  const gc = (globalThis as { gc?: () => void }).gc;
  if (!gc) throw new Error("run with --expose-gc (vitest.config.ts does)");
  for (let last = -1; last !== liveTensors();) {
    last = liveTensors();
    for (let i = 0; i < 2; i++) {
      gc();
      await wait(5);
    }
  }
  return { live: liveTensors(), leaked: leakedTensors() };
}
