/** Reading and comparing the fixtures computed by the original's code: a folder with case.json, tensors and small weights. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { loadSafetensors, type Tensor } from "@make-your-anchor/torch";

interface Tolerance {
  atol?: number;
  rtol?: number;
  abs?: number;
  exact?: boolean;
}

const roots = ["./golden/", "../../shared/golden/"].map((r) => fileURLToPath(new URL(r, import.meta.url)));

/** Where a case lies: the small ones in the project, the large ones beside it; undefined when it is nowhere. */
export const caseFolder = (name: string): string | undefined =>
  roots.map((r) => join(r, name)).find((f) => existsSync(join(f, "case.json")));

export class GoldenCase {
  readonly folder: string;
  readonly json: Record<string, any>;
  readonly inputs: Map<string, Tensor>;
  readonly outputs: Map<string, Tensor>;

  constructor(name: string) {
    const folder = caseFolder(name);
    if (!folder) throw new Error(`no fixture "${name}"`);
    this.folder = folder;
    this.json = JSON.parse(readFileSync(join(folder, "case.json"), "utf8"));
    const load = (file: string) => (existsSync(join(folder, file)) ? loadSafetensors(join(folder, file)) : new Map<string, Tensor>());
    this.inputs = load("inputs.safetensors");
    this.outputs = load("outputs.safetensors");
  }
  path(name: string): string {
    return join(this.folder, name);
  }
  input(name: string): Tensor {
    const t = this.inputs.get(name);
    if (!t) throw new Error(`no input ${name}`);
    return t;
  }
  output(name: string): Tensor {
    const t = this.outputs.get(name);
    if (!t) throw new Error(`no output ${name}`);
    return t;
  }

  /** The tolerance of an output: its own entry, else the longest pattern that fits, else 1e-5. */
  tolerance(name: string): Tolerance {
    const table = (this.json.tolerance ?? {}) as Record<string, Tolerance>;
    const fits = Object.keys(table)
      .filter((p) => new RegExp(`^${p.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*")}$`).test(name))
      .sort((a, b) => b.length - a.length);
    return table[fits[0]] ?? table.default ?? { atol: 1e-5, rtol: 1e-5 };
  }

  /** Fails with the worst difference and where it is. */
  expectClose(name: string, actual: Tensor | ArrayLike<number>, pattern = name): void {
    const wanted = this.output(name);
    if ("shape" in actual) expect(actual.shape, `${name}: shape`).toEqual(wanted.shape);
    const a = "shape" in actual ? actual.to("float64").data() : actual;
    const b = wanted.to("float64").data();
    expect(a.length, `${name}: count`).toBe(b.length);
    const t = this.tolerance(pattern);
    let worst = 0;
    let at = -1;
    let missed = 0;
    for (let i = 0; i < b.length; i++) {
      const allowed = t.exact ? 0 : (t.atol ?? t.abs ?? 0) + (t.rtol ?? 0) * Math.abs(Number(b[i]));
      const difference = Math.abs(Number(a[i]) - Number(b[i]));
      if (!(difference <= allowed)) missed++;
      if (!(difference <= worst)) [worst, at] = [difference, i];
    }
    expect(
      missed,
      `${name}: ${missed} of ${b.length} beyond ${JSON.stringify(t)}; worst ${worst} at ${at}: got ${a[at]}, expected ${b[at]}`,
    ).toBe(0);
  }
}
