import { describe, expect, it } from "vitest";
import { empty, Generator, ops, scope } from "./index.ts";

describe("seeded generators", () => {
  it("the same seed gives the same numbers, another seed others", () =>
    scope(() => {
      using a = new Generator(7);
      using b = new Generator(7);
      using c = new Generator(8);
      const x = a.randn([64]);
      expect(x.equal(b.randn([64]))).toBe(true);
      expect(x.equal(c.randn([64]))).toBe(false);
    }));

  it("a saved state goes on where it was", () =>
    scope(() => {
      using a = new Generator(7);
      a.randn([33]);
      const state = a.getState();
      const next = a.rand([10]);
      using b = new Generator(1);
      b.setState(state);
      expect(b.rand([10]).equal(next)).toBe(true);
    }));

  it("distributions", () =>
    scope(() => {
      using g = new Generator(3);
      const normal = g.randn([20000]);
      expect(Math.abs(normal.mean().item())).toBeLessThan(0.03);
      expect(Math.abs(normal.square().mean().item() - 1)).toBeLessThan(0.05);
      const uniform = g.rand([20000]);
      expect(uniform.min().item()).toBeGreaterThanOrEqual(0);
      expect(uniform.max().item()).toBeLessThan(1);
      expect(Math.abs(uniform.mean().item() - 0.5)).toBeLessThan(0.02);
      const whole = [...g.randint(-2, 3, [2000]).data()].map(Number);
      expect(new Set(whole)).toEqual(new Set([-2, -1, 0, 1, 2]));
      expect([...g.randperm(50).data()].map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
      const filled = ops.normal_(empty([20000]), 3, 0.5, g.id);
      expect(Math.abs(filled.mean().item() - 3)).toBeLessThan(0.03);
      const spread = ops.uniform_(empty([20000]), 2, 4, g.id);
      expect(Math.abs(spread.mean().item() - 3)).toBeLessThan(0.03);
    }));

  it("refuses a seed that is no whole number", () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 60]) expect(() => new Generator(seed)).toThrow(/seed: expected a whole number/);
  });
});
