/** Functions over several tensors, as in `torch.nn.functional`. */
import { h, Operator, wrap } from "./dispatch.ts";
import { native } from "./native.ts";
import { op } from "./ops.gen.ts";
import * as ops from "./ops.gen.ts";
import { ShapeError, TorchError } from "./errors.ts";
import { scope } from "./scope.ts";
import type { Operand, Tensor } from "./tensor.ts";

export const cat = (tensors: readonly Tensor[], axis = 0): Tensor => ops.cat(tensors, axis);
export const stack = (tensors: readonly Tensor[], axis = 0): Tensor => ops.stack(tensors, axis);
export const where = (condition: Tensor, a: Tensor, b: Tensor): Tensor => ops.where_self(condition, a, b);
/** Rows of a table `[N, D]` by int64 indices of any shape. */
export const embedding = (table: Tensor, indices: Tensor): Tensor => ops.embedding(table, indices);
/**
 * `x` `[..., ins]`, `weight` `[outs, ins]` → `[..., outs]`. Large ones on an x86 processor as convolutions of one pixel, over the same memory:
 * oneDNN, which computes those, knows its widest vectors; the BLAS of a libtorch often does not (docs/design/speed.md).
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  const [outs, ins] = weight.shape;
  const rows = x.numel / ins;
  const asConvolution = process.arch === "x64" && x.dtype === "float32" && x.device === "cpu" && rows >= 32 && rows * ins * outs >= 8e6;
  if (!asConvolution || x.size(-1) !== ins) return ops.linear(x, weight, bias);
  return scope(() => {
    const pixels = x.reshape([1, rows, 1, ins]).permute([0, 3, 1, 2]);
    const y = ops.conv2d(pixels, weight.reshape([outs, ins, 1, 1]), bias);
    return y.permute([0, 2, 3, 1]).reshape([...x.shape.slice(0, -1), outs]);
  });
}
export const mseLoss = (a: Tensor, b: Tensor): Tensor => ops.mse_loss(a, b);
export const l1Loss = (a: Tensor, b: Tensor): Tensor => ops.l1_loss(a, b);
export const avgPool2d = (x: Tensor, size: number): Tensor => ops.avg_pool2d(x, [size, size]);
/** Twice the height and width (or exactly `size`) by repeating pixels. `x` `[B, C, H, W]`. */
export const upsampleNearest = (x: Tensor, size?: readonly [number, number]): Tensor =>
  size ? ops.upsample_nearest2d(x, size) : ops.upsample_nearest2d(x, [x.size(2) * 2, x.size(3) * 2], 2, 2);
/** To `size` by bilinear interpolation; `alignCorners` puts the first and last samples on each other. `x` `[B, C, H, W]`. */
export const upsampleBilinear = (x: Tensor, size: readonly [number, number], alignCorners = false): Tensor =>
  ops.upsample_bilinear2d(x, size, alignCorners);
/** Largest value of each window. `x` `[B, C, H, W]`. */
export const maxPool2d = (x: Tensor, size: number, { stride = size, padding = 0 } = {}): Tensor =>
  ops.max_pool2d(x, [size, size], [stride, stride], [padding, padding]);
/** Normalisation by given statistics (evaluation mode). `x` `[B, C, H, W]`, the rest `[C]`. */
export const batchNorm = (x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: number): Tensor =>
  ops.batch_norm(x, weight, bias, mean, variance, false, 0, eps, true);
export const conv2d = (x: Tensor, weight: Tensor, bias: Tensor | null, stride: number, padding: number): Tensor =>
  ops.conv2d(x, weight, bias, [stride, stride], [padding, padding]);
export const groupNorm = (x: Tensor, groups: number, weight: Tensor | null, bias: Tensor | null, eps: number): Tensor =>
  ops.group_norm(x, groups, weight, bias, eps);
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor =>
  ops.layer_norm(x, [x.size(-1)], weight, bias, eps);
/** Elements of `x` picked by index tensors, one an axis, broadcast together. */
export const index = (x: Tensor, indices: readonly Tensor[]): Tensor => ops.index_Tensor(x, indices);

/**
 * GroupNorm whose statistics span the frames of a sample. `x` `[B·F, C, H, W]`, frames of one sample in a row; the same as
 * `group_norm` of `[B, C, F, H, W]`, without moving the frames.
 */
export function groupNormOverFrames(x: Tensor, frames: number, groups: number, weight: Tensor, bias: Tensor, eps: number): Tensor {
  if (frames === 1) return groupNorm(x, groups, weight, bias, eps);
  const [n, c, h, w] = x.shape;
  const grouped = x.reshape([n / frames, frames, groups, (c / groups) * h * w]);
  const mean = grouped.mean([1, 3], true); // [B, 1, G, 1]
  const inverse = grouped.variance([1, 3], false, true).add(eps).rsqrt();
  const scale = inverse
    .expand([n / frames, 1, groups, c / groups])
    .reshape([n / frames, 1, c, 1])
    .mul(weight.reshape([1, 1, c, 1]));
  const shift = bias.reshape([1, 1, c, 1]).sub(
    mean
      .expand([n / frames, 1, groups, c / groups])
      .reshape([n / frames, 1, c, 1])
      .mul(scale),
  );
  return addTo(x.reshape([n / frames, frames, c, h * w]).mul(scale), shift).reshape([n, c, h, w]);
}

/** The addon's own for the CPU: scores stay in the cache, both ways (native/attention.cpp). */
const flashAttention = new Operator("anchor::attention", "");

/** Most bytes of attention scores held at once where neither the addon nor libtorch can do better. */
const scoreBytes = 16 << 20;

/**
 * Scaled dot-product attention over `heads` heads. `q` `[B, N, C]`, `k`, `v` `[B, M, C]` → `[B, N, C]`; `causal` lets token i
 * see tokens 0 … i only. The addon's kernel on the CPU, in float32 whatever comes; on a GPU libtorch's fused one where it has it (2.0
 * and newer); else queries in chunks. The whole score matrix `[B·heads, N, M]` never exists.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, causal = false): Tensor {
  const [b, n, c] = q.shape;
  const m = k.size(1);
  const d = c / heads;
  if (!Number.isInteger(d)) throw new ShapeError(`attention with ${heads} heads: channels`, ["a multiple of heads"], [c]);
  if (q.device === "cpu" && q.dtype !== "float64") {
    if (q.dtype !== "float32") return attention(q.to("float32"), k.to("float32"), v.to("float32"), heads, causal).to(q.dtype);
    return wrap(native.call(flashAttention.index, false, h(q, "attention(q)"), h(k, "attention(k)"), h(v, "attention(v)"), heads, causal));
  }
  const split = (t: Tensor, length: number) => t.reshape([b, length, heads, d]).transpose(1, 2); // [B, h, L, d]
  if (op.scaled_dot_product_attention.exists) {
    const y = ops.scaled_dot_product_attention(split(q, n), split(k, m), split(v, m), null, 0, causal);
    return y.transpose(1, 2).reshape([b, n, c]);
  }
  const flat = (t: Tensor, length: number) => split(t, length).reshape([b * heads, length, d]);
  // The scale goes into the queries: a scaled bmm. (1.13's baddbmm with beta 0 lets NaN of uninitialised memory through.)
  const queries = flat(q.mul(d ** -0.5), n);
  const keys = flat(k, m).transpose(1, 2);
  const values = flat(v, m);
  const rows = Math.max(1, Math.min(n, Math.floor(scoreBytes / (4 * b * heads * m))));
  const parts: Tensor[] = [];
  for (let from = 0; from < n; from += rows) {
    const length = Math.min(rows, n - from);
    // A scope of its own: each chunk's scores go before the next ones come.
    parts.push(
      scope(() => {
        let scores = queries.narrow(1, from, length).bmm(keys); // [B·h, rows, M]
        if (causal) scores = scores.maskedFill(ops.tril(ops.ones_like(scores.select(0, 0)), from).eq(0), Number.NEGATIVE_INFINITY);
        return scores.softmax(-1).bmm(values);
      }),
    );
  }
  const y = parts.length === 1 ? parts[0] : cat(parts, 1);
  return y.reshape([b, heads, n, d]).transpose(1, 2).reshape([b, n, c]);
}

/*
 * For a tensor that the caller made and does not look at again: changed in place where no gradient is recorded, which saves a pass
 * over fresh memory; otherwise as the plain operation. The result is all that may be used.
 */
/** `spent.silu()`. */
export const siluOf = (spent: Tensor): Tensor => (spent.requiresGrad ? spent.silu() : spent.silu_());
/** `spent + other`; `spent` has the sum's shape and dtype. */
export const addTo = (spent: Tensor, other: Tensor): Tensor =>
  spent.requiresGrad || other.requiresGrad ? spent.add(other) : spent.add_(other);
/** `spent · other`; `spent` has the product's shape and dtype. */
export const mulInto = (spent: Tensor, other: Operand): Tensor =>
  spent.requiresGrad || (typeof other !== "number" && other.requiresGrad) ? spent.mul(other) : spent.mul_(other);

/** Throws unless `t` has the given shape; strings stand for any size, the same string for the same size. */
export function expectShape(what: string, t: Tensor, expected: readonly (number | string)[]): void {
  const bound = new Map<string, number>();
  const fits =
    t.dim === expected.length &&
    expected.every((e, i) => {
      if (typeof e === "number") return e === t.shape[i];
      const before = bound.get(e);
      bound.set(e, t.shape[i]);
      return before === undefined || before === t.shape[i];
    });
  if (!fits) throw new ShapeError(what, expected, t.shape);
}

export function assertFinite(what: string, t: Tensor): void {
  if (!t.isFinite().all().item()) throw new TorchError("NOT_FINITE", `${what} holds NaN or infinity`);
}
