import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { backward, Conv2d, Generator, Linear, LowRankAdapter, Module, noGrad, scope, sourceOf, type Tensor } from "../index.ts";

class Net extends Module {
  private readonly conv = this.child("conv", new Conv2d(3, 4, 3, { padding: 1 }));
  private readonly proj = this.child("proj", new Linear(4, 2));
  forward(x: Tensor): Tensor {
    return this.proj.forward(this.conv.forward(x).mean([2, 3]));
  }
}

let net: Net;
let x: Tensor;
beforeEach(() => {
  using g = new Generator(5);
  net = new Net().initialize(g);
  x = g.randn([2, 3, 5, 5]);
});
afterEach(() => {
  net.dispose();
  x.dispose();
});
const answer = () => scope(() => Array.from(noGrad(() => net.forward(x).clone()).floats()));
const filled = (rank: number, o: { targets?: (m: string) => boolean; alpha?: number } = {}) => {
  using g = new Generator(6);
  const adapter = new LowRankAdapter(net, { rank, ...o }).initialize(g);
  noGrad(() => scope(() => [...adapter.namedParameters()].forEach(([, p]) => void p.value.copy_(g.randn(p.shape)))));
  return adapter;
};

describe("LowRankAdapter", () => {
  test("changes nothing at first, has PEFT's names and shapes, and goes without a trace", () => {
    const before = answer();
    using g = new Generator(6);
    const adapter = new LowRankAdapter(net, { rank: 2 }).initialize(g);
    expect(answer()).toEqual(before);
    expect([...adapter.namedParameters("unet.")].map(([k, p]) => [k, p.shape])).toEqual([
      ["unet.conv.lora_A.weight", [2, 3, 3, 3]],
      ["unet.conv.lora_B.weight", [4, 2, 1, 1]],
      ["unet.proj.lora_A.weight", [2, 4]],
      ["unet.proj.lora_B.weight", [2, 2]],
    ]);
    expect(adapter.parameterCount).toBe(2 * 27 + 8 + 8 + 4);
    adapter.detach();
    expect(answer()).toEqual(before);
  });

  test("merged, the plain model answers as the adapted one did", () => {
    const plain = answer();
    const adapter = filled(2, { alpha: 3 });
    const adapted = answer();
    expect(Math.abs(adapted[0] - plain[0])).toBeGreaterThan(1e-3);
    adapter.merge();
    answer().forEach((v, i) => expect(v).toBeCloseTo(adapted[i], 5));
  });

  test("only the adapters get gradients, those of their products", () => {
    const adapter = filled(1, { targets: (m) => m === "proj" });
    for (const [, p] of adapter.namedParameters()) p.value.requiresGrad_();
    scope(() => backward(net.forward(x).sum()));
    for (const p of net.parameters()) expect(p.value.grad).toBeNull();
    const [[, a], [, b]] = [...adapter.namedParameters()];
    scope(() => {
      // d(sum)/dW is the mean features summed over the batch, in every row.
      const features = noGrad(() => (net as unknown as { conv: Conv2d }).conv.forward(x).mean([2, 3]).sum([0]));
      const wanted = noGrad(() => features.mul(b.value.sum()));
      Array.from(a.value.grad!.floats()).forEach((v, i) => expect(v).toBeCloseTo(wanted.floats()[i], 4));
    });
    adapter.detach();
  });

  test("goes through a state dict, strictly", () => {
    const first = filled(2);
    const adapted = answer();
    const kept = new Map(scope(() => [...first.stateDict("unet.")].map(([k, t]) => [k, noGrad(() => t.clone())] as const)));
    const saved = new Map([...kept].map(([k, t]) => [k, t]));
    first.detach();
    const second = new LowRankAdapter(net, { rank: 2 });
    second.loadStateDict(sourceOf(saved), { prefix: "unet." });
    expect(answer()).toEqual(adapted);
    second.detach();
    const other = new LowRankAdapter(net, { rank: 3 });
    expect(() => other.loadStateDict(sourceOf(saved), { prefix: "unet.", what: "file" })).toThrow(
      /unet\.conv\.lora_A\.weight: expected \[3, 3, 3, 3\], got \[2, 3, 3, 3\]/,
    );
    other.detach();
    for (const t of kept.values()) t.dispose();
    expect(() => new LowRankAdapter(net, { rank: 0 })).toThrow(/rank: expected a whole number from 1, got 0/);
  });
});
