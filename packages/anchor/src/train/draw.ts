/** What a training step draws: which samples, and how noisy. */
import { fromData, Generator, noGrad, scope, type Tensor } from "@make-your-anchor/torch";

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

/** Which samples of a batch are `noiseless` (the recipe's share of them): 1 where one is. Null where none can be, and nothing is drawn. */
export const drawNoiseless = (g: Generator, batch: number, share: number): number[] | null =>
  share > 0
    ? Array.from(
        scope(() => g.rand([batch]).floats()),
        (u) => (u < share ? 1 : 0),
      )
    : null;

/** Noise `[batch, C, h, w]`, zero in those samples. */
export const withoutNoise = (noise: Tensor, noiseless: readonly number[] | null): Tensor =>
  noiseless
    ? noGrad(() =>
        noise.mul(
          fromData(
            Float32Array.from(noiseless, (n) => 1 - n),
            [noiseless.length, 1, 1, 1],
          ),
        ),
      )
    : noise;

/** Their timesteps: the schedule's last. */
export const atTheEnd = (timesteps: readonly number[], noiseless: readonly number[] | null, last: number): number[] =>
  timesteps.map((t, b) => (noiseless?.[b] ? last : t));
