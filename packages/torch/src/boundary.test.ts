/** Nothing a caller passes ends the process: wrong types, disposed tensors, absurd sizes become errors. */
import { describe, expect, it } from "vitest";
import { cat, fromData, full, leakedTensors, liveTensors, ops, scope, tensor, Tensor, TorchError, zeros } from "./index.ts";
import { native } from "./native.ts";
import { op } from "./ops.gen.ts";

describe("ownership", () => {
  it("a scope frees what it does not return, also when it throws", () => {
    const before = liveTensors();
    const kept = scope(() => {
      const a = tensor([1, 2]);
      return { sum: a.sum(), list: [a.mul(2)] };
    });
    expect(liveTensors()).toBe(before + 2);
    expect(kept.sum.item()).toBe(3);
    kept.sum.dispose();
    kept.list[0].dispose();
    expect(() =>
      scope(() => {
        tensor([1]).add(1);
        throw new Error("out");
      }),
    ).toThrow("out");
    expect(liveTensors()).toBe(before);
  });
  it("scopes nest: what an inner one returns, the outer one frees", () => {
    const before = liveTensors();
    scope(() => {
      const inner = scope(() => tensor([1]).add(1));
      expect(inner.item()).toBe(2);
    });
    expect(liveTensors()).toBe(before);
  });
  it("using frees at the end of the block; disposing twice is harmless", () => {
    const before = liveTensors();
    {
      using t = tensor([1]);
      t.dispose();
    }
    expect(liveTensors()).toBe(before);
  });
  it("use after dispose names the argument", () => {
    const t = tensor([1]);
    t.dispose();
    expect(() => t.add(1)).toThrow(/add\(self\): the tensor was disposed/);
    expect(() => t.shape).toThrow(/disposed/);
    expect(String(t)).toBe("Tensor(disposed)");
  });
  it("a view of a tensor's memory outlives it", () => {
    const t = tensor([1, 2, 3]);
    const bytes = t.memory();
    t.dispose();
    expect(new Float32Array(bytes.buffer)[1]).toBe(2);
  });
  it("nothing leaked in this file", () => expect(leakedTensors()).toBe(0));
});

describe("the boundary", () => {
  const bad: unknown[] = [
    undefined,
    null,
    true,
    "x",
    1.5,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 60,
    10n,
    Symbol.iterator,
    {},
    [],
    [[]],
    ["a"],
    [Number.NaN],
    [-5],
    [2 ** 40, 2 ** 40],
    () => 1,
    new Float32Array(3),
    new Map(),
    "cuda:99",
    "no-device",
  ];

  it("takes any argument in any place of any operator", () => {
    scope(() => {
      const good = [
        tensor([
          [1, 2],
          [3, 4],
        ]),
        1,
        [1, 1],
      ];
      let refused = 0;
      let seed = 1;
      const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
      // Those that ask for memory as large as they are told are limited by the guard; the rest must fail or answer.
      for (const name of Object.keys(op)) {
        const f = (ops as unknown as Record<string, (...a: unknown[]) => unknown>)[name];
        if (typeof f !== "function") continue;
        for (let round = 0; round < 12; round++) {
          const args = Array.from({ length: random(6) }, () => (random(3) === 0 ? good[random(good.length)] : bad[random(bad.length)]));
          try {
            scope(() => void f(...args));
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
            refused++;
          }
        }
      }
      expect(refused).toBeGreaterThan(500);
      // Still alive and well.
      expect(tensor([1, 2]).sum().item()).toBe(3);
    });
  });

  it("the raw addon refuses invented handles and wrong kinds", () => {
    const index = native.findOp("aten::abs", "");
    for (const handle of [0, 1, -1, 1.5, 2 ** 26, 2 ** 52, Number.NaN, "a", null, {}])
      expect(() => native.call(index, false, handle)).toThrow();
    expect(() => native.call(1e9, false)).toThrow(/no such operator/);
    expect(() => native.call(index, false, ...Array.from({ length: 40 }, () => 1))).toThrow();
    for (const name of Object.keys(native) as (keyof typeof native)[]) {
      for (const value of bad) {
        if (name === "setThreads" || name === "gradEnabled") continue;
        try {
          (native[name] as (...a: unknown[]) => unknown)(value, value, value);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }
    }
    expect(native.info().version).toMatch(/\d/);
  });

  it("a freed handle does not come to mean another tensor", () => {
    const a = tensor([1]);
    const stale = a.handle;
    a.dispose();
    using b = tensor([2]);
    expect(b.handle).not.toBe(stale);
    expect(() => native.meta(stale)).toThrow(/not a live tensor handle/);
  });

  it("absurd sizes are refused before they are tried", () => {
    expect(() => zeros([1e6, 1e6])).toThrow(/out of memory: one tensor of/);
    expect(() => zeros([2 ** 31, 2 ** 31, 8])).toThrow(TorchErrorOrError);
    expect(() => zeros([-1])).toThrow(/negative/i);
    expect(() => zeros([Number.NaN])).toThrow(/whole number/);
    expect(() => full([3], 1, { dtype: "float99" as never })).toThrow(/unknown dtype/);
  });
  const TorchErrorOrError = Error;

  it("errors name the operator and the shapes", () => {
    scope(() => {
      const [a, b] = [zeros([2, 3]), zeros([4, 5])];
      expect(() => a.matmul(b)).toThrow(
        /aten::matmul\(self=Float\[2, 3\], other=Float\[4, 5\]\): mat1 and mat2 shapes cannot be multiplied/,
      );
      expect(() => cat([a, b])).toThrow(/aten::cat\(tensors=\[Float\[2, 3\], Float\[4, 5\]\]/);
      expect(() => ops.conv2d(a, "x" as unknown as Tensor)).toThrow(/conv2d\(weight\): expected a Tensor, got string/);
    });
  });

  it("data must fit the shape", () => {
    expect(() => fromData(new Float32Array(5), [2, 3])).toThrow(/20 bytes given, the shape and dtype need 24/);
    expect(() => tensor([[1, 2], [3]])).toThrow(/rows of different lengths/);
    expect(new TorchError("X", "y").code).toBe("X");
  });
});
