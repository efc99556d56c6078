/** `Module`: a tree of parameters under the names of published checkpoints. */
import { dtypeCode, type DType } from "../dtype.ts";
import { StateDictError, TorchError } from "../errors.ts";
import { keep, noGrad, scope } from "../scope.ts";
import type { Generator } from "../create.ts";
import type { Tensor } from "../tensor.ts";
import * as ops from "../ops.gen.ts";

/** c10::MemoryFormat's numbering. */
const channelsLastFormat = 2;

export type Init = (shape: readonly number[], generator: Generator) => Tensor;

/**
 * A named weight. It knows its shape from the start and has a value only after `initialize` or `loadStateDict`: a model can be
 * built and its names and shapes compared without allocating anything.
 */
export class Parameter {
  readonly shape: readonly number[];
  readonly init: Init;
  /** What is added to the value where a layer uses it; see `LowRankAdapter`. */
  adapter: { delta(): Tensor } | null = null;
  private tensor: Tensor | undefined;

  constructor(shape: readonly number[], init: Init) {
    this.shape = shape;
    this.init = init;
  }
  get loaded(): boolean {
    return this.tensor !== undefined;
  }
  get value(): Tensor {
    if (this.tensor) return this.tensor;
    throw new TorchError("NO_WEIGHTS", "the model has no weights yet: load them (loadStateDict) or start from random ones (initialize)");
  }
  /** The value with what an adapter adds to it. */
  adapted(): Tensor {
    return this.adapter ? this.value.add(this.adapter.delta()) : this.value;
  }
  /** Takes over `t`; the tensor held before is freed. */
  set(t: Tensor): void {
    if (t === this.tensor) return;
    const recorded = this.tensor?.requiresGrad ?? false;
    this.tensor?.dispose();
    this.tensor = keep(t);
    if (recorded) t.requiresGrad_();
  }
  dispose(): void {
    this.tensor?.dispose();
    this.tensor = undefined;
  }
}

export interface StateDictSource {
  keys(): Iterable<string>;
  shape(key: string): readonly number[];
  /** A tensor the caller owns. */
  read(key: string): Tensor;
}

/** Tensors by name as a source; reading clones. */
export function sourceOf(tensors: ReadonlyMap<string, Tensor>): StateDictSource {
  return { keys: () => tensors.keys(), shape: (k) => tensors.get(k)!.shape, read: (k) => noGrad(() => tensors.get(k)!.clone()) };
}

export interface LoadOptions {
  /** Named in errors: a file or folder. */
  what?: string;
  /** Stored name → our name; undefined drops the key. */
  rename?: (key: string) => string | undefined;
  dtype?: DType;
  device?: string;
}

export abstract class Module {
  private readonly children = new Map<string, Module>();
  private readonly own = new Map<string, Parameter>();

  /** Adds a part under its name in checkpoints (dots make levels: `"net.0.proj"`). */
  protected child<T extends Module>(name: string, module: T): T {
    this.children.set(name, module);
    return module;
  }
  protected param(name: string, shape: readonly number[], init: Init): Parameter {
    const p = new Parameter(shape, init);
    this.own.set(name, p);
    return p;
  }

  *namedParameters(prefix = ""): Generator2<[string, Parameter]> {
    for (const [name, p] of this.own) yield [prefix + name, p];
    for (const [name, m] of this.children) yield* m.namedParameters(`${prefix}${name}.`);
  }
  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, p]) => p);
  }
  /** The weights by name, not copied. */
  stateDict(): Map<string, Tensor> {
    return new Map([...this.namedParameters()].map(([name, p]) => [name, p.value]));
  }
  /** How many numbers the model holds, loaded or not. */
  get parameterCount(): number {
    return this.parameters().reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0);
  }

  /** Fills every parameter with random start values. */
  initialize(generator: Generator): this {
    noGrad(() => {
      for (const p of this.parameters()) p.set(scope(() => p.init(p.shape, generator)));
    });
    return this;
  }

  /**
   * Loads weights; strict: nothing is changed unless names and shapes agree exactly.
   * @throws {StateDictError} listing all missing, unexpected and misshapen keys
   */
  loadStateDict(source: StateDictSource, options: LoadOptions = {}): this {
    const mine = new Map(this.namedParameters());
    const stored = new Map<string, string>();
    const unexpected: string[] = [];
    for (const key of source.keys()) {
      const name = options.rename ? options.rename(key) : key;
      if (name === undefined) continue;
      if (mine.has(name)) stored.set(name, key);
      else unexpected.push(key);
    }
    const missing = [...mine.keys()].filter((name) => !stored.has(name));
    const misshapen: string[] = [];
    for (const [name, key] of stored) {
      const wanted = mine.get(name)!.shape;
      const got = source.shape(key);
      if (wanted.join() !== got.join()) misshapen.push(`${key}: expected [${wanted.join(", ")}], got [${got.join(", ")}]`);
    }
    if (missing.length + unexpected.length + misshapen.length > 0)
      throw new StateDictError(options.what ?? this.constructor.name, missing, unexpected, misshapen);
    noGrad(() => {
      for (const [name, key] of stored) {
        let t = keep(source.read(key));
        for (const target of [options.dtype ?? "float32", options.device ?? "cpu"]) {
          if (t.dtype === target || t.device === target) continue;
          const next = keep(t.to(target));
          t.dispose();
          t = next;
        }
        mine.get(name)!.set(t);
      }
    });
    return this;
  }

  /** Turns recording for gradients on or off for every weight. */
  requiresGrad_(on = true): this {
    for (const p of this.parameters()) p.value.requiresGrad_(on);
    return this;
  }
  zeroGrad(): void {
    for (const p of this.parameters()) p.value.setGrad(null);
  }
  /** Converts or moves every weight. */
  to(target: DType | (string & {})): this {
    noGrad(() => {
      for (const p of this.parameters()) {
        const t = p.value;
        if (t.dtype === target || t.device === target) continue;
        p.set(t.to(target));
      }
    });
    return this;
  }
  /** Lays every convolution's weight out channels last, which a GPU's half-precision kernels want; the numbers stay the same. */
  channelsLast(): this {
    noGrad(() => {
      for (const p of this.parameters()) if (p.shape.length === 4) p.set(ops.contiguous(p.value, channelsLastFormat));
    });
    return this;
  }
  /** Dtype of the weights (of the first one). */
  get dtype(): DType {
    return this.parameters()[0].value.dtype;
  }
  get device(): string {
    return this.parameters()[0].value.device;
  }
  dispose(): void {
    for (const p of this.parameters()) p.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

type Generator2<T> = globalThis.Generator<T, void, undefined>;

/** Uniform in ±1/√fanIn: torch's own start values of convolutions and linear layers. */
export const uniformFanIn =
  (fanIn: number): Init =>
  (shape, g) =>
    g
      .rand(shape)
      .mul_(2)
      .add_(-1)
      .mul_(1 / Math.sqrt(fanIn));
export const constant =
  (value: number): Init =>
  (shape) =>
    ops.full(shape, value, dtypeCode("float32"));
export const normal =
  (std: number): Init =>
  (shape, g) =>
    g.randn(shape).mul_(std);
