import { expect, test } from "vitest";
import { Generator, liveTensors, noGrad, scope } from "@make-your-anchor/torch";
import { ControlNetConditioningEmbedding } from "./embeddings.ts";

test("pictures embedded a few at a time are those embedded together", () => {
  const before = liveTensors();
  scope(() => {
    using g = new Generator(1);
    const embedding = new ControlNetConditioningEmbedding(8, [16, 32], 3).initialize(g).requiresGrad_();
    // The last convolution begins at zero.
    for (const [name, p] of embedding.namedParameters()) if (name.startsWith("conv_out")) noGrad(() => p.value.copy_(g.randn(p.shape)));
    const pictures = g.rand([5, 3, 256, 256]); // two of them fill 8 MB
    const together = embedding.forward(pictures).detach();
    const parts = noGrad(() => embedding.forward(pictures));
    expect(parts.shape).toEqual([5, 8, 128, 128]);
    expect(parts.sub(together).abs().max().item()).toBeLessThan(1e-4);
    expect(together.abs().max().item()).toBeGreaterThan(0.1);
    embedding.dispose();
  });
  expect(liveTensors()).toBe(before);
});
