/** Dropout in residual blocks, where diffusers has it. Training alone asks for it. */
import { cat, Generator, noGrad, scope, TorchError, type Tensor } from "@make-your-anchor/torch";

/** Blocks of the networks that share a `Dropout`: more than any has. */
const mostPlaces = 256;

/** What one pass of the networks leaves out. Each sample has a seed of its own, so it loses the same whatever it is computed beside, and when it is computed again. */
export class Dropout {
  private readonly rate: number;
  private readonly seeds: readonly number[];
  /** In the order in which they are first asked for. */
  private readonly places = new Map<object, number>();

  /** Below this, whole numbers from 0 are seeds. */
  static readonly seedLimit = 2 ** 32 / mostPlaces;

  /**
   * @param rate share of the values that become 0; the others grow to make up for it. 0 or more, less than 1
   * @param seeds one a sample
   * @throws {TorchError} `DROPOUT` for a rate out of its range
   */
  constructor(rate: number, seeds: readonly number[]) {
    if (!(rate >= 0 && rate < 1)) throw new TorchError("DROPOUT", `dropout: expected 0 or more and less than 1, got ${rate}`);
    this.rate = rate;
    this.seeds = seeds;
  }

  /**
   * @param x `[B, …]`, as many samples as there are seeds
   * @param at whose values they are: every layer loses others
   * @throws {TorchError} `DROPOUT` for another number of samples
   */
  apply(x: Tensor, at: object): Tensor {
    const { rate, seeds, places } = this;
    if (rate === 0) return x;
    const [count, ...shape] = x.shape;
    if (count !== seeds.length) throw new TorchError("DROPOUT", `dropout: expected ${seeds.length} samples, got ${count}`);
    if (!places.has(at)) places.set(at, places.size);
    const place = places.get(at)!;
    return scope(() => {
      const kept = noGrad(() => {
        const drawn = seeds.map((seed) => {
          using g = new Generator(seed * mostPlaces + place);
          return g.rand([1, ...shape]);
        });
        return cat(drawn, 0)
          .ge(rate)
          .to(x.device)
          .to(x.dtype)
          .div(1 - rate);
      });
      return x.mul(kept);
    });
  }
}
