/** Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) under the names PEFT gives them. */
import type { Generator } from "../create.ts";
import { StateDictError, TorchError } from "../errors.ts";
import { noGrad, scope } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { constant, Parameter, uniformFanIn, type Module, type StateDictSource } from "./module.ts";

export interface LowRankOptions {
  /** At least 1. */
  rank: number;
  /** What the product is multiplied by is `alpha / rank`; default `rank`, so 1. */
  alpha?: number;
  /** Which weights get one, by the module's name (`"mid_block.resnets.0.conv1"`); default all convolutions and linear layers. */
  targets?: (module: string) => boolean;
}

/**
 * B·A beside a model's weights: A `[rank, in]` and B `[out, rank]` of a linear layer, `[rank, in, k, k]` and `[out, rank, 1, 1]` of a convolution.
 * B starts at zero, so the model starts as it is. Layers add the product wherever they use the weight, until `merge` or `detach`.
 */
export class LowRankAdapter {
  readonly rank: number;
  private readonly scale: number;
  private readonly pairs: { module: string; weight: Parameter; a: Parameter; b: Parameter }[] = [];

  constructor(model: Module, { rank, alpha = rank, targets = () => true }: LowRankOptions) {
    if (!(Number.isInteger(rank) && rank >= 1)) throw new TorchError("OPTION", `rank: expected a whole number from 1, got ${rank}`);
    this.rank = rank;
    this.scale = alpha / rank;
    for (const [name, weight] of model.namedParameters()) {
      const { shape } = weight;
      const module = name.replace(/\.weight$/, "");
      if (module === name || (shape.length !== 2 && shape.length !== 4) || !targets(module)) continue;
      const [out, ...inner] = shape;
      const fanIn = inner.reduce((x, y) => x * y, 1);
      const a = new Parameter([rank, ...inner], uniformFanIn(fanIn));
      const b = new Parameter(shape.length === 4 ? [out, rank, 1, 1] : [out, rank], constant(0));
      this.pairs.push({ module, weight, a, b });
      weight.adapter = {
        delta: () => {
          const product = b.value.flatten(1).matmul(a.value.flatten(1)).reshape(shape);
          return this.scale === 1 ? product : product.mul(this.scale);
        },
      };
    }
  }

  *namedParameters(prefix = ""): IterableIterator<[string, Parameter]> {
    for (const { module, a, b } of this.pairs) {
      yield [`${prefix}${module}.lora_A.weight`, a];
      yield [`${prefix}${module}.lora_B.weight`, b];
    }
  }
  get parameterCount(): number {
    return [...this.namedParameters()].reduce((n, [, p]) => n + p.shape.reduce((x, y) => x * y, 1), 0);
  }
  /** Random A, zero B. */
  initialize(generator: Generator): this {
    noGrad(() => {
      for (const [, p] of this.namedParameters()) p.set(scope(() => p.init(p.shape, generator)));
    });
    return this;
  }
  /** The weights by name, not copied. */
  stateDict(prefix = ""): Map<string, Tensor> {
    return new Map([...this.namedParameters(prefix)].map(([name, p]) => [name, p.value]));
  }
  /**
   * Loads what starts with `prefix`; strict, as `Module.loadStateDict`.
   * @throws {StateDictError}
   */
  loadStateDict(source: StateDictSource, o: { prefix?: string; what?: string } = {}): this {
    const { prefix = "" } = o;
    const mine = new Map(this.namedParameters(prefix));
    const keys = new Set([...source.keys()].filter((k) => k.startsWith(prefix)));
    const missing = [...mine.keys()].filter((k) => !keys.has(k));
    const unexpected = [...keys].filter((k) => !mine.has(k));
    const misshapen = [...mine].flatMap(([k, p]) =>
      keys.has(k) && source.shape(k).join() !== p.shape.join()
        ? [`${k}: expected [${p.shape.join(", ")}], got [${source.shape(k).join(", ")}]`]
        : [],
    );
    if (missing.length + unexpected.length + misshapen.length > 0)
      throw new StateDictError(o.what ?? "adapter", missing, unexpected, misshapen);
    noGrad(() => {
      for (const [name, p] of mine) p.set(scope(() => source.read(name).to("float32")));
    });
    return this;
  }
  /** Adds the products to the weights for good, and lets go of them. */
  merge(): void {
    for (const { weight } of this.pairs) {
      noGrad(() => weight.set(scope(() => weight.adapted())));
      weight.adapter = null;
    }
    this.dispose();
  }
  /** Lets go of the model, which is as it was. */
  detach(): void {
    for (const { weight } of this.pairs) weight.adapter = null;
    this.dispose();
  }
  to(device: string): this {
    noGrad(() => {
      for (const [, p] of this.namedParameters()) if (p.value.device !== device) p.set(p.value.to(device));
    });
    return this;
  }
  private dispose(): void {
    for (const [, p] of this.namedParameters()) p.dispose();
  }
}
