/** Gradient norms and clipping. */
import { stack } from "../functional.ts";
import { noGrad, scope } from "../scope.ts";
import type { Parameter } from "../nn/module.ts";
import * as ops from "../ops.gen.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Scales the gradients so that their joint L2 norm is at most `maxNorm` (as `torch.nn.utils.clip_grad_norm_`, which divides by
 * norm + 1e-6). @returns the norm before
 */
export function clipGradNorm(parameters: Iterable<Parameter>, maxNorm: number): number {
  return scope(() =>
    noGrad(() => {
      const grads = [...parameters].map((p) => p.value.grad).filter((g): g is Tensor => g !== null);
      if (grads.length === 0) return 0;
      const norm = stack(grads.map((g) => g.norm()))
        .norm()
        .item();
      const scale = maxNorm / (norm + 1e-6);
      if (scale < 1) ops._foreach_mul__Scalar(grads, scale);
      return norm;
    }),
  );
}
