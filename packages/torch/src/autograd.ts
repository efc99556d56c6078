/** Gradients: libtorch's own autograd, reached through its dispatcher. */
import { TorchError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";
import * as ops from "./ops.gen.ts";

/** Adds d loss / d leaf to `grad` of every leaf that requires it. `loss` is one number. */
export function backward(loss: Tensor, options: { retainGraph?: boolean } = {}): void {
  if (loss.numel !== 1)
    throw new TorchError(
      "NOT_SCALAR",
      `backward: expected one number, got a tensor of shape [${loss.shape.join(", ")}]; reduce it with sum() or mean()`,
    );
  if (!loss.requiresGrad)
    throw new TorchError("NO_GRAPH", "backward: nothing in the graph requires a gradient (made under noGrad, or no requiresGrad_())");
  ops._backward(loss, [], null, options.retainGraph ?? null, false);
}

/**
 * d (output · weight) / d input for each input, without touching any `grad`. Inputs must be leaves that require a gradient;
 * one that the output does not depend on gives null.
 * @param weight the output's own shape; ones when left out and the output is one number
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  weight: Tensor | null = null,
  options: { retainGraph?: boolean } = {},
): (Tensor | null)[] {
  if (inputs.length === 0) return [];
  const before = inputs.map((t) => t.grad);
  for (const t of inputs) t.setGrad(null);
  try {
    ops._backward(output, inputs, weight, options.retainGraph ?? null, false);
    return inputs.map((t) => t.grad);
  } finally {
    inputs.forEach((t, i) => {
      t.setGrad(before[i]);
      before[i]?.dispose();
    });
  }
}
