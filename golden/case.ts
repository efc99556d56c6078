/** Reading and comparing the fixtures computed by the original's code: a folder with case.json, tensors and small weights. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadSafetensors, scope, type DType, type Tensor } from "@make-your-anchor/torch";

export interface Tolerance {
  atol?: number;
  rtol?: number;
  abs?: number;
  /** Of the largest magnitude in the reference. */
  rel_to_max?: number;
  rel?: number;
  exact?: boolean;
  /** Share of values that may be off by one all the same. */
  offByOne?: number;
}

/** How one tensor compares. */
export interface TensorResult {
  tensor: string;
  shape: readonly number[];
  status: "passed" | "failed";
  /** Largest difference. */
  worst: number;
  /** Largest difference over what its tolerance allows: at most 1 passes. */
  ratio: number;
  tolerance: Tolerance;
  /** Why, where it failed. */
  message?: string;
}

/** What a device and a dtype add to the tolerances, which were measured in float32 on a CPU. */
export interface Arithmetic {
  device: string;
  /** Of weights and inputs; a case that only works in float32 stays there. */
  dtype: DType;
  /** Factor on every tolerance that is not exact. */
  slack: number;
}
export const cpuArithmetic: Arithmetic = { device: "cpu", dtype: "float32", slack: 1 };

/**
 * Slack by dtype: the tolerances are about 2e-5 of the largest output; the halves carry three digits and two, and errors add up over some
 * hundred layers. Another device adds in another order: float32 may be off several times as far.
 */
export const arithmeticOf = (device: string, dtype: DType): Arithmetic => ({
  device,
  dtype,
  slack: dtype === "float16" ? 1000 : dtype === "bfloat16" ? 8000 : device === "cpu" ? 1 : 4,
});

/** JSON of the fixtures: what is used of it is checked where it is used. */
export type CaseJson = Record<string, any>;

export class GoldenCase {
  readonly folder: string;
  readonly json: CaseJson;
  arithmetic: Arithmetic;
  readonly results: TensorResult[] = [];
  private readonly inputs: Map<string, Tensor>;
  private readonly outputs: Map<string, Tensor>;
  private readonly moved: Tensor[] = [];

  constructor(folder: string, arithmetic: Arithmetic = cpuArithmetic) {
    this.folder = folder;
    this.arithmetic = arithmetic;
    this.json = JSON.parse(readFileSync(join(folder, "case.json"), "utf8")) as CaseJson;
    const load = (file: string) => (existsSync(this.path(file)) ? loadSafetensors(this.path(file)) : new Map<string, Tensor>());
    this.inputs = load("inputs.safetensors");
    this.outputs = load("outputs.safetensors");
  }

  get name(): string {
    return this.json.case as string;
  }
  path(name: string): string {
    return join(this.folder, name);
  }
  /** The folder of a model the case names; what follows the first word is a remark. */
  model(name: string): string {
    const at = (this.json.models as Record<string, string> | undefined)?.[name];
    if (!at) throw new Error(`${this.folder}/case.json names no model "${name}"`);
    return this.path(at.split(" ")[0]);
  }
  /** A file named in a remark, as "DDIM from ../schedulers/scheduler/scheduler_config.json". */
  namedFile(remark: string): string {
    const found = /from (\S+\.json)/.exec(remark)?.[1];
    if (!found) throw new Error(`${this.folder}/case.json: no file is named in "${remark}"`);
    return this.path(found);
  }

  has(name: string): boolean {
    return this.inputs.has(name);
  }
  /** An input, on the device the case runs on. */
  input(name: string): Tensor {
    const t = this.inputs.get(name);
    if (!t) throw new Error(`${this.folder}: no input ${name}`);
    const { device, dtype } = this.arithmetic;
    let moved = t;
    for (const target of [device, ...(t.dtype === "float32" ? [dtype] : [])]) {
      if (moved.device === target || moved.dtype === target) continue;
      moved = moved.to(target);
      this.moved.push(moved);
    }
    return moved;
  }
  get outputNames(): string[] {
    return [...this.outputs.keys()];
  }
  hasOutput(name: string): boolean {
    return this.outputs.has(name);
  }
  output(name: string): Tensor {
    const t = this.outputs.get(name);
    if (!t) throw new Error(`${this.folder}: no output ${name}`);
    return t;
  }

  /** The tolerance of an output: its own entry, else the longest pattern that fits, else 1e-5. */
  tolerance(name: string): Tolerance {
    const table = this.json.tolerance as Record<string, Tolerance> | "exact" | undefined;
    if (table === "exact") return { exact: true };
    const fits = Object.keys(table ?? {})
      .filter((p) => new RegExp(`^${p.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*")}$`).test(name))
      .sort((a, b) => b.length - a.length);
    const entry = table?.[fits[0]] ?? table?.default ?? { atol: 1e-5, rtol: 1e-5 };
    const { atol, rtol, abs, rel, rel_to_max, exact } = entry;
    // Said in the entry's remark: "off by one in under 0.1% of values is tolerable"; another entry may refer to it ("as lanczos").
    const { note } = entry as { note?: string };
    const offByOne = exact && note && /off.by.one|^as /.test(note) ? 0.001 : undefined;
    return { atol, rtol, abs, rel, rel_to_max, exact, offByOne };
  }

  /** Compares an output; `pattern` names the tolerance where it is not the output's own. */
  check(name: string, actual: Tensor | ArrayLike<number>, pattern = name): void {
    const wanted = this.output(name);
    const shape = "shape" in actual ? actual.shape : undefined;
    this.compare(name, "shape" in actual ? numbers(actual) : actual, numbers(wanted), this.tolerance(pattern), wanted.shape, shape);
  }
  /** Compares numbers that are no tensor of the case. */
  compare(
    name: string,
    actual: ArrayLike<number>,
    wanted: ArrayLike<number>,
    tolerance: Tolerance,
    shape: readonly number[] = [wanted.length],
    actualShape?: readonly number[],
  ): void {
    const differs = actualShape ? actualShape.join() !== shape.join() : actual.length !== wanted.length;
    if (differs) {
      const got = actualShape ? `[${actualShape.join(", ")}]` : `${actual.length} numbers`;
      this.note(name, shape, tolerance, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, `expected [${shape.join(", ")}], got ${got}`);
      return;
    }
    let most = 0;
    if (tolerance.rel_to_max) for (let i = 0; i < wanted.length; i++) most = Math.max(most, Math.abs(wanted[i]));
    const fixed = (tolerance.atol ?? tolerance.abs ?? 0) + (tolerance.rel_to_max ?? 0) * most;
    const relative = tolerance.rtol ?? tolerance.rel ?? 0;
    let [worst, ratio, at, off] = [0, 0, 0, 0];
    for (let i = 0; i < wanted.length; i++) {
      const difference = actual[i] === wanted[i] ? 0 : Math.abs(actual[i] - wanted[i]);
      const allowed = tolerance.exact ? 0 : this.arithmetic.slack * (fixed + relative * Math.abs(wanted[i]));
      const r = difference === 0 ? 0 : difference / allowed;
      if (!(difference <= worst)) worst = difference;
      if (difference > 0) off++;
      if (!(r <= ratio)) [ratio, at] = [Number.isNaN(r) ? Number.POSITIVE_INFINITY : r, i];
    }
    if (tolerance.offByOne && worst <= 1 && off <= tolerance.offByOne * wanted.length) ratio = off > 0 ? 1 : 0;
    this.note(name, shape, tolerance, worst, ratio, `worst at ${at}: got ${actual[at]}, expected ${wanted[at]}`);
  }
  /** Records a comparison made elsewhere. */
  note(name: string, shape: readonly number[], tolerance: Tolerance, worst: number, ratio: number, message: string): void {
    const passed = ratio <= 1;
    this.results.push({
      tensor: name,
      shape,
      status: passed ? "passed" : "failed",
      worst,
      ratio,
      tolerance,
      ...(passed ? {} : { message }),
    });
  }
  /** Records that something is as it must be, or not. */
  expect(name: string, holds: boolean, message: string): void {
    this.note(name, [], { exact: true }, holds ? 0 : 1, holds ? 0 : Number.POSITIVE_INFINITY, message);
  }

  /** Outputs that no comparison has named: a runner that forgets one must not pass. */
  unchecked(): string[] {
    const seen = new Set(this.results.map((r) => r.tensor.split(" ")[0]));
    return this.outputNames.filter((n) => !seen.has(n));
  }

  dispose(): void {
    for (const t of [...this.inputs.values(), ...this.outputs.values(), ...this.moved]) t.dispose();
  }
}

const numbers = (t: Tensor): ArrayLike<number> => scope(() => t.detach().to("cpu").to("float64").data() as unknown as ArrayLike<number>);
