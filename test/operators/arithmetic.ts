/** Elementwise operators, comparisons, losses, reductions and products. */
import { ops, type Tensor } from "../../packages/torch/src/index.ts";
import { device, DOUBLE, A, B, P, M, add, unary, binary, erf, sig, mm, sum, mean, T23 } from "./cases.ts";

unary("abs", ops.abs, Math.abs);
unary("cos", ops.cos, Math.cos);
unary("exp", ops.exp, Math.exp);
unary(
  "gelu",
  (t) => ops.gelu(t),
  (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
);
unary(
  "leaky_relu",
  (t) => ops.leaky_relu(t, 0.2),
  (x) => (x > 0 ? x : 0.2 * x),
);
unary("log", ops.log, Math.log, P);
unary("neg", ops.neg, (x) => -x);
unary("reciprocal", ops.reciprocal, (x) => 1 / x);
unary("relu", ops.relu, (x) => Math.max(0, x));
unary("round", ops.round, (x) => Math.round(x), A, false);
unary("rsqrt", ops.rsqrt, (x) => 1 / Math.sqrt(x), P);
unary(
  "rsub_Scalar",
  (t) => ops.rsub_Scalar(t, 2),
  (x) => 2 - x,
);
unary("sigmoid", ops.sigmoid, sig);
unary("silu", ops.silu, (x) => x * sig(x));
unary("sin", ops.sin, Math.sin);
unary("sqrt", ops.sqrt, Math.sqrt, P);
unary("tanh", ops.tanh, Math.tanh);
unary(
  "add_Scalar",
  (t) => ops.add_Scalar(t, 0.5),
  (x) => x + 0.5,
);
unary(
  "sub_Scalar",
  (t) => ops.sub_Scalar(t, 0.5),
  (x) => x - 0.5,
);
unary(
  "mul_Scalar",
  (t) => ops.mul_Scalar(t, -1.5),
  (x) => x * -1.5,
);
unary(
  "div_Scalar",
  (t) => ops.div_Scalar(t, 4),
  (x) => x / 4,
);
unary(
  "pow_Tensor_Scalar",
  (t) => ops.pow_Tensor_Scalar(t, 3),
  (x) => x ** 3,
);
unary(
  "pow_Scalar",
  (t) => ops.pow_Scalar(2, t),
  (x) => 2 ** x,
);
unary(
  "clamp",
  (t) => ops.clamp(t, -1, 1),
  (x) => Math.min(1, Math.max(-1, x)),
);
unary(
  "clone",
  (t) => ops.clone(t),
  (x) => x,
);
unary(
  "contiguous",
  (t) => ops.contiguous(t),
  (x) => x,
);
unary(
  "detach",
  (t) => ops.detach(t),
  (x) => x,
  A,
  false,
);
unary(
  "isfinite",
  (t) => ops.to_dtype(ops.isfinite(t), DOUBLE),
  () => 1,
  A,
  false,
);
unary(
  "logical_not",
  (t) => ops.to_dtype(ops.logical_not(ops.gt_Scalar(t, 0)), DOUBLE),
  (x) => (x > 0 ? 0 : 1),
  A,
  false,
);
unary(
  "ones_like",
  (t) => ops.ones_like(t),
  () => 1,
  A,
  false,
);
unary(
  "zeros_like",
  (t) => ops.zeros_like(t),
  () => 0,
  A,
  false,
);
unary(
  "to_dtype",
  (t) => ops.to_dtype(t, DOUBLE),
  (x) => x,
);
unary(
  "to_device",
  (t) => ops.to_device(t, device, DOUBLE),
  (x) => x,
);
binary(
  "add_Tensor",
  (a, b) => ops.add_Tensor(a, b, 2),
  (a, b) => a + 2 * b,
);
binary(
  "sub_Tensor",
  (a, b) => ops.sub_Tensor(a, b),
  (a, b) => a - b,
);
binary("mul_Tensor", ops.mul_Tensor, (a, b) => a * b);
binary("div_Tensor", ops.div_Tensor, (a, b) => a / b);
binary("atan2", ops.atan2, Math.atan2);
binary("maximum", ops.maximum, Math.max);
binary("minimum", ops.minimum, Math.min);
for (const [name, f] of [
  ["eq", (a: number, b: number) => a === b],
  ["gt", (a: number, b: number) => a > b],
  ["ge", (a: number, b: number) => a >= b],
  ["lt", (a: number, b: number) => a < b],
] as const) {
  const fn = (ops as unknown as Record<string, (a: Tensor, b: Tensor) => Tensor>)[`${name}_Tensor`];
  binary(
    `${name}_Tensor`,
    (a, b) => ops.to_dtype(fn(a, b), DOUBLE),
    (a, b) => Number(f(a, b)),
    false,
  );
}
for (const [name, f] of [
  ["eq", (a: number) => a === 0.4],
  ["gt", (a: number) => a > 0.4],
  ["ge", (a: number) => a >= 0.4],
  ["lt", (a: number) => a < 0.4],
  ["le", (a: number) => a <= 0.4],
  ["ne", (a: number) => a !== 0.4],
] as const) {
  const fn = (ops as unknown as Record<string, (a: Tensor, b: number) => Tensor>)[`${name}_Scalar`];
  unary(
    `${name}_Scalar`,
    (t) => ops.to_dtype(fn(t, 0.4), DOUBLE),
    (x) => Number(f(x)),
    A,
    false,
  );
}
binary(
  "logical_and",
  (a, b) => ops.to_dtype(ops.logical_and(ops.gt_Scalar(a, 0), ops.gt_Scalar(b, 0)), DOUBLE),
  (a, b) => Number(a > 0 && b > 0),
  false,
);
binary(
  "where_self",
  (a, b) => ops.where_self(ops.gt_Scalar(a, 0), a, b),
  (a, b) => (a > 0 ? a : b),
);
// Losses and reductions.
add(
  "mse_loss",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.mse_loss(a, b),
  [mean(A.map((x, i) => (x - B[i]) ** 2))],
);
add(
  "l1_loss",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.l1_loss(a, b),
  [mean(A.map((x, i) => Math.abs(x - B[i])))],
);
add(
  "huber_loss",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.huber_loss(a, b, 1, 1.5),
  [mean(A.map((x, i) => (Math.abs(x - B[i]) < 1.5 ? 0.5 * (x - B[i]) ** 2 : 1.5 * (Math.abs(x - B[i]) - 0.75))))],
);
add("sum", [[A, [2, 3]]], (t) => ops.sum(t), [sum(A)]);
add("sum_dim_IntList", [[A, [2, 3]]], (t) => ops.sum_dim_IntList(t, [1]), [sum(A.slice(0, 3)), sum(A.slice(3))]);
add("mean", [[A, [2, 3]]], (t) => ops.mean(t), [mean(A)]);
add(
  "mean_dim",
  [[A, [2, 3]]],
  (t) => ops.mean_dim(t, [0], true),
  [0, 1, 2].map((i) => (A[i] + A[i + 3]) / 2),
);
add("prod", [[A, [2, 3]]], (t) => ops.prod(t), [A.reduce((x, y) => x * y)]);
add("max", [[A, [2, 3]]], ops.max, [2.1]);
add("min", [[A, [2, 3]]], ops.min, [-1.3]);
add("amax", [[A, [2, 3]]], (t) => ops.amax(t, [1]), [2.1, 1.9]);
add("amin", [[A, [2, 3]]], (t) => ops.amin(t, [0]), [0.4, -1.3, 1.9]);
add("argmax", [[A, [2, 3]]], (t) => ops.to_dtype(ops.argmax(t, 1), DOUBLE), [2, 2], { grad: false });
add("argmin", [[A, [2, 3]]], (t) => ops.to_dtype(ops.argmin(t, 1), DOUBLE), [1, 1], { grad: false });
add("all", [[A, [2, 3]]], (t) => ops.to_dtype(ops.all(ops.gt_Scalar(t, -2)), DOUBLE), [1], { grad: false });
add("any", [[A, [2, 3]]], (t) => ops.to_dtype(ops.any(ops.gt_Scalar(t, 3)), DOUBLE), [0], { grad: false });
add("std", [[A, [2, 3]]], (t) => ops.std(t, true), [Math.sqrt(sum(A.map((x) => (x - mean(A)) ** 2)) / 5)]);
add(
  "var_dim",
  [[A, [2, 3]]],
  (t) => ops.var_dim(t, [1], false),
  [0, 3].map((k) => mean(A.slice(k, k + 3).map((x) => (x - mean(A.slice(k, k + 3))) ** 2))),
);
add("linalg_vector_norm", [[A, [2, 3]]], (t) => ops.linalg_vector_norm(t, 2, [1]), [
  Math.hypot(...A.slice(0, 3)),
  Math.hypot(...A.slice(3)),
]);
add("cumsum", [[A, [2, 3]]], (t) => ops.cumsum(t, 1), [0.7, -0.6, 1.5, 0.4, -0.2, 1.7]);
add("cumprod", [[A, [2, 3]]], (t) => ops.cumprod(t, 1), [0.7, 0.7 * -1.3, 0.7 * -1.3 * 2.1, 0.4, 0.4 * -0.6, 0.4 * -0.6 * 1.9]);
add(
  "softmax_int",
  [[A, [2, 3]]],
  (t) => ops.softmax_int(t, 1),
  A.map((x, i) => Math.exp(x) / sum(A.slice(i < 3 ? 0 : 3, i < 3 ? 3 : 6).map(Math.exp))),
);
// Products.
add(
  "matmul",
  [
    [A, [2, 3]],
    [M, [3, 2]],
  ],
  ops.matmul,
  mm(A, M, 2, 3, 2),
);
add(
  "mm",
  [
    [A, [2, 3]],
    [M, [3, 2]],
  ],
  ops.mm,
  mm(A, M, 2, 3, 2),
);
add(
  "bmm",
  [
    [A, [1, 2, 3]],
    [M, [1, 3, 2]],
  ],
  ops.bmm,
  mm(A, M, 2, 3, 2),
);
add(
  "baddbmm",
  [
    [
      [1, 2, 3, 4],
      [1, 2, 2],
    ],
    [A, [1, 2, 3]],
    [M, [1, 3, 2]],
  ],
  (c, a, b) => ops.baddbmm(c, a, b, 0.5, 2),
  mm(A, M, 2, 3, 2).map((x, i) => 2 * x + 0.5 * (i + 1)),
);
add(
  "addmm",
  [
    [
      [1, 2, 3, 4],
      [2, 2],
    ],
    [A, [2, 3]],
    [M, [3, 2]],
  ],
  (c, a, b) => ops.addmm(c, a, b),
  mm(A, M, 2, 3, 2).map((x, i) => x + i + 1),
);
add(
  "linear",
  [
    [A, [2, 3]],
    [B, [2, 3]],
    [[0.1, 0.2], [2]],
  ],
  (x, w, b) => ops.linear(x, w, b),
  mm(A, T23(B), 2, 3, 2).map((x, i) => x + (i % 2 ? 0.2 : 0.1)),
);
add(
  "linalg_cross",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.linalg_cross(a, b, -1),
  [0, 3].flatMap((k) => [A[k + 1] * B[k + 2] - A[k + 2] * B[k + 1], A[k + 2] * B[k] - A[k] * B[k + 2], A[k] * B[k + 1] - A[k + 1] * B[k]]),
);
