import { describe, expect, it } from "vitest";
import {
  allowTf32,
  autocast,
  backward,
  cudaDevices,
  cudaMemory,
  engineInfo,
  fromData,
  Generator,
  Linear,
  noGrad,
  scope,
  TorchError,
} from "./index.ts";

describe("devices", () => {
  it("counts CUDA devices, and tells their memory or that it cannot", () => {
    expect(cudaDevices() > 0).toBe(engineInfo().cuda);
    const memory = cudaMemory("cuda:0");
    if (engineInfo().cuda && memory) expect(memory.peakAllocated).toBeGreaterThanOrEqual(memory.allocated);
    else expect(memory).toBeNull();
    expect(() => cudaMemory("cpu")).toThrow(TorchError);
  });
});

describe("TF32", () => {
  it("is for convolutions at first, and is told when it changes", () => {
    const none = { convolutions: false, products: false };
    const before = allowTf32(none);
    expect(before).toEqual({ convolutions: true, products: false });
    expect(allowTf32(before)).toEqual(none);
    expect(allowTf32(before)).toEqual(before);
  });
});

describe("autocast", () => {
  using g = new Generator(1);
  const layer = new Linear(8, 4).initialize(g);
  const x = noGrad(() => g.randn([3, 8]));

  it("multiplies in bfloat16 inside, and in float32 again behind it", () =>
    scope(() => {
      expect(layer.forward(x).dtype).toBe("float32");
      expect(autocast("cpu", "bfloat16", () => layer.forward(x).dtype)).toBe("bfloat16");
      expect(autocast("cpu", "float32", () => layer.forward(x).dtype)).toBe("float32");
      expect(layer.forward(x).dtype).toBe("float32");
    }));
  it("ends when its function throws", () => {
    expect(() =>
      autocast("cpu", "bfloat16", () => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    scope(() => {
      expect(layer.forward(x).dtype).toBe("float32");
    });
  });
  it("nests: the inner one's end leaves the outer one on", () =>
    scope(() =>
      autocast("cpu", "bfloat16", () => {
        autocast("cpu", "bfloat16", () => {});
        expect(layer.forward(x).dtype).toBe("bfloat16");
      }),
    ));
  it("gives float32 gradients to float32 weights, near those without it", () =>
    scope(() => {
      layer.requiresGrad_();
      const target = fromData(new Float32Array(12), [3, 4]);
      const gradient = (dtype: "float32" | "bfloat16") => {
        layer.zeroGrad();
        autocast("cpu", dtype, () => backward(layer.forward(x).to("float32").sub(target).square().mean()));
        return layer.weight.value.grad!;
      };
      const [plain, half] = [gradient("float32"), gradient("bfloat16")];
      expect(half.dtype).toBe("float32");
      const difference = plain.sub(half).norm().item() / plain.norm().item();
      expect(difference).toBeLessThan(0.02);
      expect(difference).toBeGreaterThan(0);
    }));
});
