/** What a training step draws: which samples, and how noisy. */
import { Generator, scope } from "@make-your-anchor/torch";

/** Every frame once an epoch, in an order of its own. */
export function batchIndices(n: number, batch: number, step: number, seed: number): number[] {
  const out: number[] = [];
  for (let k = step * batch; k < (step + 1) * batch; k++) {
    const epoch = Math.floor(k / n);
    if (order?.epoch !== epoch || order.n !== n || order.seed !== seed) {
      using g = new Generator(seed * 7919 + epoch);
      order = { epoch, n, seed, indices: scope(() => Array.from(g.randperm(n).data(), Number)) };
    }
    out.push(order.indices[k % n]);
  }
  return out;
}
let order: { epoch: number; n: number; seed: number; indices: number[] } | undefined;

/** One timestep a sample, as the original draws them. */
export const uniformTimesteps = (g: Generator, batch: number, count: number): number[] =>
  scope(() => Array.from(g.rand([batch]).floats(), (x) => Math.min(count - 1, Math.floor(x * count))));

/** One timestep a sample, spread over the batch (one in each of `batch` strata), leaning to the noisy end, where the picture is decided. */
export function stratifiedTimesteps(g: Generator, batch: number, count: number): number[] {
  const u = scope(() => g.rand([batch]).floats());
  return Array.from(u, (x, b) => Math.min(count - 1, Math.floor(((b + x) / batch) ** 0.3 * count)));
}
