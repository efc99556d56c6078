/** Every bound operator: its values against plain JavaScript, and its gradient against finite differences, both in float64. */
import { describe, expect, it } from "vitest";
import { cases, device, f64 } from "../../../test/operators/cases.ts";
import "../../../test/operators/arithmetic.ts";
import "../../../test/operators/layers.ts";
import "../../../test/operators/shapes.ts";
import { grad, noGrad, ops, scope, tensor } from "./index.ts";
import { op as table } from "./ops.gen.ts";

/** Operators with a test of their own elsewhere, and where. */
const elsewhere: Record<string, string> = {
  _backward: "every gradient below",
  _local_scalar_dense: "item(), below",
  allclose: "below",
  equal: "below",
  randn_generator: "random.test.ts",
  rand_generator: "random.test.ts",
  randint_low_generator: "random.test.ts",
  randperm_generator: "random.test.ts",
  normal_: "random.test.ts",
  uniform_: "random.test.ts",
  _fused_adamw_: "optim.test.ts, where libtorch has it",
  scaled_dot_product_attention: "functional.test.ts, where libtorch has it",
};

describe("operators", () => {
  for (const c of cases) {
    it(`${c.op}${c.note ? ` (${c.note})` : ""}`, () =>
      scope(() => {
        const inputs = c.inputs.map(([v, s]) => f64(v, s));
        const out = c.run(...inputs);
        const got = [...out.data()].map(Number);
        expect(got.length).toBe(c.want.length);
        got.forEach((x, i) => expect(x, `element ${i}`).toBeCloseTo(c.want[i], 10));
        if (c.grad === false) return;
        // d (out · weight) / d input by central differences.
        const weight = f64(
          got.map((_, i) => Math.cos(i + 1)),
          [...out.shape],
        );
        const leaves = c.inputs.map(([v, s]) => f64(v, s).requiresGrad_());
        const gradients = grad(
          c
            .run(...leaves)
            .mul(weight)
            .sum(),
          leaves,
        );
        c.inputs.forEach(([v, s], k) => {
          v.forEach((_, i) => {
            const at = (d: number) =>
              noGrad(() =>
                c
                  .run(...c.inputs.map(([w, t], m) => f64(m === k ? w.map((x, j) => (j === i ? x + d : x)) : w, t)))
                  .mul(weight)
                  .sum()
                  .item(),
              );
            const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            const analytic = gradients[k] ? Number(gradients[k]!.data()[i]) : 0;
            expect(Math.abs(analytic - numeric), `input ${k} [${s}], element ${i}: ${analytic} against ${numeric}`).toBeLessThanOrEqual(
              1e-4 + 1e-3 * Math.abs(numeric),
            );
          });
        });
      }));
  }

  it("equal, allclose, item", () =>
    scope(() => {
      const on = (values: number[]) => tensor(values, { device });
      const a = on([1, 2]);
      expect(ops.equal(a, on([1, 2]))).toBe(true);
      expect(ops.equal(a, on([1, 3]))).toBe(false);
      expect(ops.allclose(a, on([1, 2.000001]))).toBe(true);
      expect(ops.allclose(a, on([1, 2.1]))).toBe(false);
      expect(on([4.5]).item()).toBe(4.5);
    }));

  it("every operator that is bound is tested", () => {
    const tested = new Set([...cases.map((c) => c.op), ...Object.keys(elsewhere)]);
    expect(Object.keys(table).filter((name) => !tested.has(name))).toEqual([]);
  });

  it("an operator this libtorch lacks says so", () => {
    if (table._fused_adamw_.exists) return;
    expect(() => ops._fused_adamw_([], [], [], [], [], [], 0, 0, 0, 0, 0, false, false)).toThrow(
      /libtorch .* has no operator aten::_fused_adamw_/,
    );
  });
});
