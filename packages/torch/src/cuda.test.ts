/** What a GPU must do as the CPU does. `ops.test.ts` runs its table there too, see `npm run gpu-check`. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AdamW,
  allowTf32,
  attention,
  autocast,
  backward,
  backwardCheckpointed,
  clipGradNorm,
  Conv2d,
  cudaDevices,
  cudaMemory,
  fromData,
  Generator,
  GroupNorm,
  groupNormOverFrames,
  Linear,
  liveTensors,
  loadSafetensors,
  noGrad,
  resetPeakMemory,
  saveSafetensors,
  scope,
  segment,
  type Tensor,
} from "./index.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const gpu = "cuda:0";
/** Largest difference, of the largest value. */
const apart = (a: Tensor, b: Tensor) =>
  scope(() => a.to("cpu").to("float64").sub(b.to("cpu").to("float64")).abs().max().item() / b.abs().max().item());

describe.skipIf(cudaDevices() === 0)("on a GPU (skipped where there is none)", () => {
  let before: ReturnType<typeof allowTf32>;
  beforeAll(() => {
    before = allowTf32({ convolutions: false, products: false });
  });
  afterAll(() => void allowTf32(before));

  it.each([
    ["one token", 1, 1, 1, false],
    ["a window's self-attention", 2, 300, 300, false],
    ["another context", 2, 64, 50, false],
    ["causal", 1, 77, 77, true],
  ])("attention: %s", (_, batch, n, m, causal) =>
    scope(() => {
      const g = new Generator(1);
      const [q, k, v] = [g.randn([batch, n, 64]), g.randn([batch, m, 64]), g.randn([batch, m, 64])];
      const wanted = attention(q, k, v, 8, causal);
      const on = (dtype: "float32" | "float16") => {
        const [a, b, c] = [q, k, v].map((t) => t.to(gpu).to(dtype));
        return attention(a, b, c, 8, causal);
      };
      expect(apart(on("float32"), wanted)).toBeLessThan(1e-5);
      expect(apart(on("float16"), wanted)).toBeLessThan(5e-3);
    }),
  );

  it("convolution and group norm, channels last too", () =>
    scope(() => {
      const g = new Generator(2);
      const [conv, norm] = [new Conv2d(8, 16, 3, { padding: 1 }).initialize(g), new GroupNorm(4, 16, 1e-5).initialize(g)];
      const x = g.randn([6, 8, 9, 7]);
      const run = (t: Tensor) => groupNormOverFrames(norm.forward(conv.forward(t)), 3, 4, norm.weight!.value, norm.bias!.value, 1e-5);
      const wanted = noGrad(() => run(x));
      conv.to(gpu);
      norm.to(gpu);
      expect(
        apart(
          noGrad(() => run(x.to(gpu))),
          wanted,
        ),
      ).toBeLessThan(1e-5);
      conv.channelsLast();
      expect(
        apart(
          noGrad(() => run(x.to(gpu))),
          wanted,
        ),
      ).toBeLessThan(1e-5);
    }));

  /** Weights after a few steps. */
  const trained = (device: string, checkpointed = false): Tensor => {
    const g = new Generator(3);
    const layers = [new Linear(12, 24).initialize(g), new Linear(24, 12).initialize(g)];
    for (const l of layers) l.to(device).requiresGrad_();
    const x = g.randn([5, 12]).to(device);
    const optimizer = new AdamW(
      layers.flatMap((l, i) => [...l.namedParameters(`${i}.`)]),
      { lr: 1e-2 },
    );
    const loss = () => {
      const hidden = segment([x], ([t]) => layers[0].forward(t).silu());
      return segment([hidden], ([t]) => layers[1].forward(t).sub(x).square().mean());
    };
    for (let i = 0; i < 5; i++) {
      if (checkpointed) backwardCheckpointed(loss);
      else scope(() => backward(loss()));
      clipGradNorm(
        layers.flatMap((l) => l.parameters()),
        0.5,
      );
      optimizer.step();
      optimizer.zeroGrad();
    }
    optimizer.dispose();
    return layers[1].weight.value;
  };
  it("trains as the CPU does, checkpointed too", () =>
    scope(() => {
      const wanted = trained("cpu");
      expect(apart(trained(gpu), wanted)).toBeLessThan(1e-4);
      expect(apart(trained(gpu, true), wanted)).toBeLessThan(1e-4);
    }));

  it("multiplies in half precision inside autocast, and tells float32 gradients", () =>
    scope(() => {
      const g = new Generator(4);
      const layer = new Linear(16, 8).initialize(g).to(gpu).requiresGrad_();
      const x = g.randn([4, 16]).to(gpu);
      for (const dtype of ["float16", "bfloat16"] as const) {
        expect(autocast(gpu, dtype, () => layer.forward(x).dtype)).toBe(dtype);
        layer.zeroGrad();
        autocast(gpu, dtype, () => backward(layer.forward(x).to("float32").square().mean()));
        expect(layer.weight.value.grad!.dtype).toBe("float32");
      }
      expect(layer.forward(x).dtype).toBe("float32");
    }));

  it("draws the same numbers from the same seed, and goes on from a kept state", () =>
    scope(() => {
      const [a, b] = [new Generator(7, gpu), new Generator(7, gpu)];
      const first = a.randn([100]);
      expect(first.device).toBe(gpu);
      expect([...b.randn([100]).floats()]).toEqual([...first.floats()]);
      const state = a.getState();
      const next = [...a.rand([10]).floats()];
      b.setState(state);
      expect([...b.rand([10]).floats()]).toEqual(next);
    }));

  it("writes and reads weights that lie there", () => {
    const folder = mkdtempSync(join(tmpdir(), "cuda-"));
    try {
      scope(() => {
        const x = new Generator(5).randn([3, 5]);
        const path = join(folder, "x.safetensors");
        saveSafetensors(path, new Map([["x", x.to(gpu)]]));
        expect([...loadSafetensors(path).get("x")!.floats()]).toEqual([...x.floats()]);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("gives memory back when a scope ends, and counts it", () => {
    const held = cudaMemory(gpu);
    const tensors = liveTensors();
    resetPeakMemory(gpu);
    scope(() => {
      const x = fromData(new Float32Array(1 << 20), [1 << 20], { device: gpu });
      x.mul(2).add(1);
    });
    expect(liveTensors()).toBe(tensors);
    const after = cudaMemory(gpu);
    if (!held || !after) return; // a libtorch that cannot tell, see cudaMemory
    expect(after.allocated).toBe(held.allocated);
    expect(after.peakAllocated - held.allocated).toBeGreaterThanOrEqual(2 * (4 << 20));
  });

  it("says what is wrong with tensors on two devices, and with more than fits", () =>
    scope(() => {
      const x = new Generator(6).randn([4]);
      expect(() => x.to(gpu).add(x)).toThrow(/on the same device.*cuda:0 and cpu/);
      expect(() =>
        fromData(Float32Array.of(1), [1], { device: gpu })
          .expand([1 << 30, 1 << 10])
          .contiguous(),
      ).toThrow(/out of memory/);
      expect(x.to(gpu).sum().item()).toBeCloseTo(x.sum().item(), 5);
    }));
});
