import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import {
  AdamW,
  assertFinite,
  attention,
  backward,
  clipGradNorm,
  Conv2d,
  cosine,
  Embedding,
  engineInfo,
  expectShape,
  fromData,
  Generator,
  grad,
  GroupNorm,
  groupNorm,
  groupNormOverFrames,
  LayerNorm,
  Linear,
  liveTensors,
  Module,
  noGrad,
  ops,
  Parameter,
  scope,
  setThreads,
  ShapeError,
  sourceOf,
  StateDictError,
  tensor,
  type Tensor,
} from "./index.ts";

/** Softmax attention written out, heads one by one. */
function plainAttention(q: Tensor, k: Tensor, v: Tensor, heads: number, causal: boolean): Tensor {
  const [b, n, c] = q.shape;
  const m = k.size(1);
  const d = c / heads;
  const out = new Float32Array(b * n * c);
  const [Q, K, V] = [q.floats(), k.floats(), v.floats()];
  for (let i = 0; i < b; i++) {
    for (let h = 0; h < heads; h++) {
      for (let x = 0; x < n; x++) {
        const scores = Array.from({ length: m }, (_, y) => {
          if (causal && y > x) return Number.NEGATIVE_INFINITY;
          let s = 0;
          for (let e = 0; e < d; e++) s += Q[(i * n + x) * c + h * d + e] * K[(i * m + y) * c + h * d + e];
          return s / Math.sqrt(d);
        });
        const top = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - top));
        const total = weights.reduce((p, r) => p + r, 0);
        for (let e = 0; e < d; e++)
          for (let y = 0; y < m; y++) out[(i * n + x) * c + h * d + e] += (weights[y] / total) * V[(i * m + y) * c + h * d + e];
      }
    }
  }
  return fromData(out, [b, n, c]);
}
const worst = (a: Tensor, b: Tensor) => a.sub(b).abs().max().item();

describe("attention", () => {
  for (const causal of [false, true]) {
    it(`equals softmax(q kᵀ/√d) v${causal ? ", causal" : ""}`, () =>
      scope(() => {
        using g = new Generator(1);
        const [q, k, v] = [g.randn([2, 5, 8]), g.randn([2, 5, 8]), g.randn([2, 5, 8])];
        expect(worst(attention(q, k, v, 2, causal), plainAttention(q, k, v, 2, causal))).toBeLessThan(1e-5);
      }));
  }
  it("in several threads gives the same bytes as in one", () =>
    scope(() => {
      using g = new Generator(3);
      const [q, k, v] = [g.randn([2, 700, 32]), g.randn([2, 700, 32]), g.randn([2, 700, 32])];
      const asked = engineInfo().threads;
      try {
        const [one, four] = [1, 4].map((threads) => {
          setThreads(threads);
          return attention(q, k, v, 4).floats();
        });
        expect(four).toEqual(one);
      } finally {
        setThreads(asked);
      }
    }));
  // In float32 the addon's own, in float64 libtorch's or chunks.
  it.each(["float32", "float64"] as const)("of many blocks of queries gives the same, forward and backward: %s", (dtype) =>
    scope(() => {
      using g = new Generator(2);
      // 2400² scores of 2 heads are 46 MB, in float64 twice that: several chunks.
      const [q, k, v] = [g.randn([1, 2400, 8]), g.randn([1, 2400, 8]), g.randn([1, 2400, 8])].map((t) => t.to(dtype));
      q.requiresGrad_();
      const whole = (x: Tensor) => {
        const split = (t: Tensor) => t.reshape([1, 2400, 2, 4]).transpose(1, 2);
        return split(x.mul(0.5)).matmul(split(k).transpose(2, 3)).softmax(-1).matmul(split(v)).transpose(1, 2).reshape([1, 2400, 8]);
      };
      const a = attention(q, k, v, 2);
      const b = whole(q);
      expect(worst(a, b)).toBeLessThan(1e-5);
      const weight = g.randn(a.shape);
      expect(worst(grad(a.mul(weight).sum(), [q])[0]!, grad(b.mul(weight).sum(), [q])[0]!)).toBeLessThan(1e-4);
    }),
  );
  for (const [what, n, m, causal] of [
    ["as many keys as queries", 600, 600, false],
    ["fewer keys", 600, 50, false],
    ["more keys, over a block's border", 70, 515, false],
    ["causal", 600, 600, true],
  ] as const) {
    it(`gradients of queries, keys and values over many blocks: ${what}`, () =>
      scope(() => {
        using g = new Generator(5);
        const leaves = [n, m, m].map((length) => g.randn([2, length, 12]).requiresGrad_());
        const split = (t: Tensor) => t.reshape([2, t.size(1), 3, 4]).transpose(1, 2);
        const plain = ([q, k, v]: Tensor[]) => {
          let scores = split(q).mul(0.5).matmul(split(k).transpose(2, 3));
          if (causal) scores = scores.maskedFill(ops.tril(ops.ones_like(scores.select(0, 0).select(0, 0))).eq(0), Number.NEGATIVE_INFINITY);
          return scores.softmax(-1).matmul(split(v)).transpose(1, 2).reshape([2, n, 12]);
        };
        const [a, b] = [attention(leaves[0], leaves[1], leaves[2], 3, causal), plain(leaves)];
        expect(worst(a, b)).toBeLessThan(1e-5);
        const weight = g.randn(a.shape);
        const [mine, theirs] = [a, b].map((y) => grad(y.mul(weight).sum(), leaves));
        mine.forEach((d, i) => expect(worst(d!, theirs[i]!), `input ${i}`).toBeLessThan(1e-4));
      }));
  }
  it.each([1, 4, 16, 20, 40, 64, 80, 160, 512])("of heads %i wide: forward and backward", (depth) =>
    scope(() => {
      using g = new Generator(6);
      const leaves = [45, 301, 301].map((length) => g.randn([1, length, 2 * depth]).requiresGrad_());
      const split = (t: Tensor) =>
        t
          .reshape([1, t.size(1), 2, depth])
          .transpose(1, 2)
          .to("float64");
      const [q, k, v] = leaves.map(split);
      const scores = q.mul(depth ** -0.5).matmul(k.transpose(2, 3));
      const exact = scores
        .softmax(-1)
        .matmul(v)
        .transpose(1, 2)
        .reshape([1, 45, 2 * depth]);
      const mine = attention(leaves[0], leaves[1], leaves[2], 2);
      expect(worst(mine.to("float64"), exact)).toBeLessThan(2e-6);
      const weight = g.randn(mine.shape);
      const [a, b] = [mine.mul(weight), exact.mul(weight.to("float64"))].map((y) => grad(y.sum(), leaves));
      a.forEach((d, i) => expect(worst(d!, b[i]!) / b[i]!.abs().max().item(), `input ${i}`).toBeLessThan(1e-5));
    }),
  );
  it("of scores far apart, and of none that is a number", () =>
    scope(() => {
      const column = (...x: number[]) => tensor([x.map((y) => [y])]);
      // One key outweighs all others; then all the same; then a query, a key and a value that are not numbers.
      expect(attention(column(1), column(-1e30, 500, 1e4), column(1, 2, 3), 1).floats()).toEqual(Float32Array.of(3));
      expect(attention(column(-1), column(300, 300), column(1, 2), 1).floats()).toEqual(Float32Array.of(1.5));
      expect(attention(column(Number.NaN, 0), column(1, 2), column(1, 2), 1).floats()).toEqual(Float32Array.of(Number.NaN, 1.5));
      expect(attention(column(1), column(1, Number.NaN), column(1, 2), 1).floats()).toEqual(Float32Array.of(Number.NaN));
      expect(attention(column(1), column(1, 2), column(1, Number.NaN), 1).floats()).toEqual(Float32Array.of(Number.NaN));
    }));
  it("of half precision is that of float32, rounded", () =>
    scope(() => {
      using g = new Generator(7);
      const [q, k, v] = [5, 9, 9].map((length) => g.randn([2, length, 8]).to("bfloat16"));
      const y = attention(q, k, v, 2);
      expect(y.dtype).toBe("bfloat16");
      const exact = attention(q.to("float32"), k.to("float32"), v.to("float32"), 2);
      expect(y.floats()).toEqual(exact.to("bfloat16").floats());
    }));
  it.each(["avx2", "default"])("on a lesser processor (%s) gives the same within rounding", (capability) =>
    scope(() => {
      const source = `
        import { attention, Generator, grad, noGrad } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
        const g = new Generator(8);
        const leaves = [90, 300, 300].map((n) => g.randn([1, n, 72]).requiresGrad_());
        const y = attention(...leaves, 3);
        process.stdout.write(JSON.stringify([y, ...grad(y.square().sum(), leaves)].map((t) => Array.from(t.floats()))));`;
      const [best, lesser] = [undefined, capability].map((asked) => {
        const env = { ...process.env, ATEN_CPU_CAPABILITY: asked };
        return JSON.parse(
          execFileSync(process.execPath, ["--input-type=module", "-e", source], { env, encoding: "utf8", maxBuffer: 1 << 26 }),
        ) as number[][];
      });
      best.forEach((numbers, i) => {
        const top = Math.max(...numbers.map(Math.abs));
        expect(Math.max(...numbers.map((x, j) => Math.abs(x - lesser[i][j]))), `result ${i}`).toBeLessThan(1e-5 * top);
      });
    }),
  );
  it("names a channel count that heads do not divide", () => {
    using q = tensor([[[1, 2, 3]]]);
    expect(() => attention(q, q, q, 2)).toThrow(ShapeError);
  });
});

describe("norms", () => {
  it("group norm over frames equals group norm of the frames as one volume", () =>
    scope(() => {
      using g = new Generator(3);
      const x = g.randn([6, 8, 3, 2]); // two samples of three frames
      const [w, b] = [g.randn([8]), g.randn([8])];
      const volume = x.reshape([2, 3, 8, 3, 2]).transpose(1, 2).contiguous(); // [B, C, F, H, W]
      const wanted = groupNorm(volume, 4, w, b, 1e-5).transpose(1, 2).reshape([6, 8, 3, 2]);
      expect(worst(groupNormOverFrames(x, 3, 4, w, b, 1e-5), wanted)).toBeLessThan(1e-5);
      expect(groupNormOverFrames(x, 1, 4, w, b, 1e-5).equal(groupNorm(x, 4, w, b, 1e-5))).toBe(true);
    }));
});

class Small extends Module {
  readonly conv = this.child("conv", new Conv2d(3, 4, 3, { padding: 1 }));
  readonly norm = this.child("norm", new GroupNorm(2, 4, 1e-5));
  readonly head = this.child("head.0", new Linear(4, 2));
  forward(x: Tensor): Tensor {
    return this.head.forward(this.norm.forward(this.conv.forward(x)).silu().mean([2, 3]));
  }
}

describe("modules", () => {
  it("know names and shapes before they hold weights", () => {
    const before = liveTensors();
    const m = new Small();
    expect([...m.namedParameters()].map(([n, p]) => `${n} ${p.shape}`)).toEqual([
      "conv.weight 4,3,3,3",
      "conv.bias 4",
      "norm.weight 4",
      "norm.bias 4",
      "head.0.weight 2,4",
      "head.0.bias 2",
    ]);
    expect(m.parameterCount).toBe(108 + 4 + 8 + 8 + 2);
    expect(liveTensors()).toBe(before);
    expect(() => m.stateDict()).toThrow(/no weights yet/);
  });

  it("load strictly: one error lists everything that does not fit, and nothing changes", () => {
    using g = new Generator(1);
    const m = new Small().initialize(g);
    const before = m.conv.weight.value;
    using wrong = tensor([[1, 2]]);
    const source = sourceOf(
      new Map([
        ["conv.weight", wrong],
        ["conv.bias", m.conv.bias!.value],
        ["extra", wrong],
      ]),
    );
    let error: unknown;
    try {
      m.loadStateDict(source, { what: "weights.safetensors" });
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(StateDictError);
    const e = error as StateDictError;
    expect(e.missing).toEqual(["norm.weight", "norm.bias", "head.0.weight", "head.0.bias"]);
    expect(e.unexpected).toEqual(["extra"]);
    expect(e.misshapen).toEqual(["conv.weight: expected [4, 3, 3, 3], got [1, 2]"]);
    expect(e.message).toContain("weights.safetensors");
    expect(m.conv.weight.value).toBe(before);
    m.dispose();
  });

  it("a batch of two is two of one, and weights survive a round trip", () =>
    scope(() => {
      using g = new Generator(4);
      const a = new Small().initialize(g);
      const b = new Small().loadStateDict(sourceOf(a.stateDict()));
      const x = g.randn([2, 3, 5, 5]);
      const both = a.forward(x);
      expect(worst(both.narrow(0, 1, 1), b.forward(x.narrow(0, 1, 1)))).toBeLessThan(1e-6);
      a.dispose();
      b.dispose();
    }));

  it("a convolution of more weights than pixels, computed in parts, is the whole one's", () =>
    scope(() => {
      using g = new Generator(9);
      const conv = new Conv2d(1024, 900, 3, { padding: 1, stride: 2 }).initialize(g).requiresGrad_();
      const x = g.randn([1, 1024, 4, 4]);
      const parts = noGrad(() => conv.forward(x));
      expect(parts.shape).toEqual([1, 900, 2, 2]);
      expect(worst(parts, conv.forward(x).detach())).toBeLessThan(1e-5);
      conv.dispose();
    }));
  it("embedding and layer norm", () =>
    scope(() => {
      using g = new Generator(4);
      const e = new Embedding(5, 3).initialize(g);
      const rows = e.forward(fromData(BigInt64Array.from([4n, 0n]), [2]));
      expect(rows.select(0, 0).equal(e.weight.value.select(0, 4))).toBe(true);
      const y = new LayerNorm(3, 1e-5).initialize(g).forward(rows);
      expect(Math.abs(y.mean().item())).toBeLessThan(1e-5);
    }));
});

describe("optimisers", () => {
  /** AdamW written out in doubles. */
  function reference(start: number[], grads: number[][], lr: number, decay: number): number[] {
    const [m, v] = [start.map(() => 0), start.map(() => 0)];
    const x = [...start];
    grads.forEach((g, t) => {
      x.forEach((_, i) => {
        x[i] *= 1 - lr * decay;
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2;
        x[i] -= ((lr / (1 - 0.9 ** (t + 1))) * m[i]) / (Math.sqrt(v[i] / (1 - 0.999 ** (t + 1))) + 1e-8);
      });
    });
    return x;
  }
  it("AdamW follows its definition, and resumes from its state", () =>
    scope(() => {
      const start = [0.5, -1.2, 2];
      const grads = [
        [0.1, -0.2, 3],
        [0.3, 0.1, -1],
        [-0.5, 0.2, 0.7],
      ];
      const make = (values: number[]) => {
        const p = new Parameter([3], () => tensor(values));
        p.set(tensor(values).requiresGrad_());
        return p;
      };
      const step = (p: Parameter, o: AdamW, g: number[]) => {
        using t = tensor(g);
        p.value.setGrad(t);
        o.step();
      };
      const p = make(start);
      const o = new AdamW([["p", p]], { lr: 0.1, weightDecay: 0.05 });
      for (const g of grads.slice(0, 2)) step(p, o, g);
      const q = make([...p.value.floats()]);
      const resumed = new AdamW([["p", q]], { lr: 0.1, weightDecay: 0.05 });
      const state = o.stateDict();
      resumed.loadStateDict({ read: (k) => noGrad(() => state.get(k)!.clone()) });
      step(p, o, grads[2]);
      step(q, resumed, grads[2]);
      const wanted = reference(start, grads, 0.1, 0.05);
      [...p.value.floats()].forEach((x, i) => expect(x).toBeCloseTo(wanted[i], 5));
      expect(q.value.detach().equal(p.value.detach())).toBe(true);
    }));
  it("clips by the joint norm", () =>
    scope(() => {
      const p = [3, 4].map((x) => {
        const q = new Parameter([1], () => tensor([0]));
        q.set(tensor([0]).requiresGrad_());
        using g = tensor([x]);
        q.value.setGrad(g);
        return q;
      });
      expect(clipGradNorm(p, 1)).toBeCloseTo(5, 5);
      expect(p.map((q) => q.value.grad!.item())).toEqual([expect.closeTo(0.6, 5), expect.closeTo(0.8, 5)]);
      expect(clipGradNorm(p, 10)).toBeCloseTo(1, 5);
    }));
  it("cosine schedule rises, falls and ends at its floor", () => {
    const s = cosine(0.1, 0.05);
    expect(s(0.05)).toBeCloseTo(0.5, 5);
    expect(s(0.1)).toBeCloseTo(1, 5);
    expect(s(1)).toBeCloseTo(0.05, 5);
  });
});

describe("checks", () => {
  it("shapes by name and number", () => {
    using t = tensor([
      [1, 2],
      [3, 4],
    ]);
    expectShape("x", t, ["B", "B"]);
    expect(() => expectShape("x", t, ["B", 3])).toThrow("x: expected [B, 3], got [2, 2]");
  });
  it("finite values", () => {
    using t = tensor([1, Number.NaN]);
    expect(() => scope(() => assertFinite("weights", t))).toThrow("weights holds NaN or infinity");
  });
  it("engine facts", () => {
    expect(engineInfo().version).toMatch(/^\d+\.\d+/);
    expect(engineInfo().threads).toBeGreaterThan(0);
  });
  it("backward wants one number with a graph", () => {
    scope(() => {
      expect(() => backward(tensor([1, 2]).requiresGrad_().mul(2))).toThrow(/expected one number/);
      expect(() => backward(tensor([1]))).toThrow(/nothing in the graph requires a gradient/);
      expect(ops.sum(tensor([1, 2])).item()).toBe(3);
    });
  });
});
