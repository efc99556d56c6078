/** Every bound operator: its values against plain JavaScript, and its gradient against finite differences, both in float64. */
import { describe, expect, it } from "vitest";
import { fromData, grad, noGrad, ops, scope, tensor, type Tensor } from "./index.ts";
import { op as table } from "./ops.gen.ts";

/** `npm run gpu-check` runs the table on a GPU. */
const device = process.env.ANCHOR_TEST_DEVICE ?? "cpu";
const f64 = (values: number[], shape: number[]) => fromData(Float64Array.from(values), shape, { device });
const i64 = (values: number[], shape = [values.length]) => fromData(BigInt64Array.from(values, BigInt), shape, { device });
const DOUBLE = 7;

// Fixed inputs, away from kinks.
const A = [0.7, -1.3, 2.1, 0.4, -0.6, 1.9]; // [2, 3]
const B = [1.2, 0.5, -0.8, 2.2, 1.1, -1.7]; // [2, 3]
const P = [0.7, 1.3, 2.1, 0.4, 0.6, 1.9]; // positive
const M = [0.3, -0.2, 1.1, 0.9, -0.7, 0.5]; // [3, 2]

interface Case {
  /** Operator, as in `ops`. */
  op: string;
  inputs: [number[], number[]][];
  run: (...t: Tensor[]) => Tensor;
  want: number[];
  /** False where no gradient is defined (comparisons, whole numbers). */
  grad?: boolean;
  note?: string;
}

const cases: Case[] = [];
const add = (
  name: string,
  inputs: [number[], number[]][],
  run: (...t: Tensor[]) => Tensor,
  want: number[],
  options: { grad?: boolean; note?: string } = {},
) => cases.push({ op: name, inputs, run, want, ...options });
const unary = (name: string, run: (t: Tensor) => Tensor, f: (x: number) => number, input = A, g = true) =>
  add(name, [[input, [2, 3]]], run, input.map(f), { grad: g });
const binary = (name: string, run: (a: Tensor, b: Tensor) => Tensor, f: (a: number, b: number) => number, g = true) => {
  add(
    name,
    [
      [A, [2, 3]],
      [B, [2, 3]],
    ],
    run,
    A.map((x, i) => f(x, B[i])),
    { grad: g },
  );
  add(
    name,
    [
      [A, [2, 3]],
      [B.slice(0, 3), [3]],
    ],
    run,
    A.map((x, i) => f(x, B[i % 3])),
    { grad: g, note: "broadcast" },
  );
};
const erf = (x: number) => {
  // Series: exact enough for |x| < 3.
  let [sum, term] = [0, x];
  for (let n = 0; n < 60; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
};
const sig = (x: number) => 1 / (1 + Math.exp(-x));
const mm = (a: number[], b: number[], n: number, k: number, m: number) =>
  Array.from({ length: n * m }, (_, i) =>
    Array.from({ length: k }, (_, j) => a[Math.floor(i / m) * k + j] * b[j * m + (i % m)]).reduce((x, y) => x + y, 0),
  );
const sum = (v: number[]) => v.reduce((x, y) => x + y, 0);
const mean = (v: number[]) => sum(v) / v.length;
const T23 = (v: number[]) => [v[0], v[3], v[1], v[4], v[2], v[5]];

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
const image = Array.from({ length: 32 }, (_, i) => Math.sin(i * 1.7));
const kernel = Array.from({ length: 18 }, (_, i) => Math.cos(i * 0.9));
const conv = (stride: number, pad: number) => {
  const size = Math.floor((4 + 2 * pad - 3) / stride) + 1;
  const out: number[] = [];
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      let v = 0.3;
      for (let c = 0; c < 2; c++)
        for (let j = 0; j < 3; j++)
          for (let i = 0; i < 3; i++) {
            const [sy, sx] = [y * stride + j - pad, x * stride + i - pad];
            if (sy >= 0 && sy < 4 && sx >= 0 && sx < 4) v += image[c * 16 + sy * 4 + sx] * kernel[c * 9 + j * 3 + i];
          }
      out.push(v);
    }
  return out;
};
for (const [stride, pad] of [
  [1, 1],
  [2, 1],
  [1, 0],
])
  add(
    "conv2d",
    [
      [image, [1, 2, 4, 4]],
      [kernel, [1, 2, 3, 3]],
      [[0.3], [1]],
    ],
    (x, w, b) => ops.conv2d(x, w, b, stride, pad),
    conv(stride, pad),
    { note: `stride ${stride}, padding ${pad}` },
  );
const normed = (v: number[], eps: number) => v.map((x) => (x - mean(v)) / Math.sqrt(mean(v.map((y) => (y - mean(v)) ** 2)) + eps));
add(
  "layer_norm",
  [
    [A, [2, 3]],
    [[1, 2, 3], [3]],
    [[0.1, 0.2, 0.3], [3]],
  ],
  (x, w, b) => ops.layer_norm(x, [3], w, b, 1e-5),
  [0, 3].flatMap((k) => normed(A.slice(k, k + 3), 1e-5).map((x, i) => x * (i + 1) + (i + 1) / 10)),
);
add(
  "group_norm",
  [
    [image, [1, 2, 4, 4]],
    [[1, 2], [2]],
    [[0.1, 0.2], [2]],
  ],
  (x, w, b) => ops.group_norm(x, 1, w, b, 1e-5),
  normed(image, 1e-5).map((x, i) => (i < 16 ? x + 0.1 : 2 * x + 0.2)),
);
add(
  "avg_pool2d",
  [[image, [1, 2, 4, 4]]],
  (x) => ops.avg_pool2d(x, 2),
  [0, 16].flatMap((c) => [0, 2, 8, 10].map((o) => mean([0, 1, 4, 5].map((k) => image[c + o + k])))),
);
add(
  "max_pool2d",
  [[image, [1, 2, 4, 4]]],
  (x) => ops.max_pool2d(x, [2, 2], [2, 2], [0, 0]),
  [0, 16].flatMap((c) => [0, 2, 8, 10].map((o) => Math.max(...[0, 1, 4, 5].map((k) => image[c + o + k])))),
);
add(
  "batch_norm",
  [
    [image, [1, 2, 4, 4]],
    [[1, 2], [2]],
    [[0.1, 0.2], [2]],
  ],
  (x, w, b) => ops.batch_norm(x, w, b, f64([0.3, -0.2], [2]), f64([0.5, 2], [2]), false, 0, 1e-5, true),
  image.map((x, i) => (i < 16 ? (x - 0.3) / Math.sqrt(0.5 + 1e-5) + 0.1 : (2 * (x + 0.2)) / Math.sqrt(2 + 1e-5) + 0.2)),
);
add(
  "upsample_nearest2d",
  [[A.slice(0, 4), [1, 1, 2, 2]]],
  (x) => ops.upsample_nearest2d(x, [4, 4], 2, 2),
  [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3].map((i) => A[i]),
);
add(
  "upsample_bilinear2d",
  [
    [
      [0, 1, 2, 3],
      [1, 1, 2, 2],
    ],
  ],
  (x) => ops.upsample_bilinear2d(x, [3, 3], true),
  [0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3],
);
add("reflection_pad2d", [[A, [1, 2, 3]]], (x) => ops.reflection_pad2d(x, [1, 1, 0, 0]), [
  A[1],
  A[0],
  A[1],
  A[2],
  A[1],
  A[4],
  A[3],
  A[4],
  A[5],
  A[4],
]);
add("constant_pad_nd", [[A, [2, 3]]], (x) => ops.constant_pad_nd(x, [1, 0], 9), [9, ...A.slice(0, 3), 9, ...A.slice(3)]);
// Shapes.
add(
  "cat",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.cat([a, b], 1),
  [...A.slice(0, 3), ...B.slice(0, 3), ...A.slice(3), ...B.slice(3)],
);
add(
  "stack",
  [
    [A, [2, 3]],
    [B, [2, 3]],
  ],
  (a, b) => ops.stack([a, b], 0),
  [...A, ...B],
);
add("reshape", [[A, [2, 3]]], (t) => ops.reshape(t, [3, 2]), A);
add("view", [[A, [2, 3]]], (t) => ops.view(t, [6]), A);
add("flatten_using_ints", [[A, [2, 3]]], (t) => ops.flatten_using_ints(t), A);
add("permute", [[A, [2, 3]]], (t) => ops.permute(t, [1, 0]), T23(A));
add("transpose_int", [[A, [2, 3]]], (t) => ops.transpose_int(t, 0, 1), T23(A));
add("squeeze_dim", [[A, [2, 1, 3]]], (t) => ops.squeeze_dim(t, 1), A);
add("unsqueeze", [[A, [2, 3]]], (t) => ops.unsqueeze(t, 1), A);
add("expand", [[A.slice(0, 3), [1, 3]]], (t) => ops.expand(t, [2, 3]), [...A.slice(0, 3), ...A.slice(0, 3)]);
add("repeat", [[A.slice(0, 3), [3]]], (t) => ops.repeat(t, [2]), [...A.slice(0, 3), ...A.slice(0, 3)]);
add(
  "flip",
  [[A, [2, 3]]],
  (t) => ops.flip(t, [1]),
  [2, 1, 0, 5, 4, 3].map((i) => A[i]),
);
add(
  "roll",
  [[A, [6]]],
  (t) => ops.roll(t, [1]),
  [5, 0, 1, 2, 3, 4].map((i) => A[i]),
);
add("select_int", [[A, [2, 3]]], (t) => ops.select_int(t, 1, 2), [A[2], A[5]]);
add("narrow", [[A, [2, 3]]], (t) => ops.narrow(t, 1, 1, 2), [A[1], A[2], A[4], A[5]]);
add("slice_Tensor", [[A, [6]]], (t) => ops.slice_Tensor(t, 0, 1, 6, 2), [A[1], A[3], A[5]]);
add("as_strided", [[A, [6]]], (t) => ops.as_strided(t, [2, 2], [3, 1]), [A[0], A[1], A[3], A[4]]);
add("chunk", [[A, [6]]], (t) => ops.chunk(t, 2)[1], A.slice(3));
add("split_Tensor", [[A, [6]]], (t) => ops.split_Tensor(t, 4)[1], A.slice(4));
add("unbind_int", [[A, [2, 3]]], (t) => ops.unbind_int(t)[1], A.slice(3));
add("tril", [[A.slice(0, 4), [2, 2]]], (t) => ops.tril(t), [A[0], 0, A[2], A[3]]);
// Indexing.
add("index_select", [[A, [2, 3]]], (t) => ops.index_select(t, 1, i64([2, 0])), [A[2], A[0], A[5], A[3]]);
add("gather", [[A, [2, 3]]], (t) => ops.gather(t, 1, i64([2, 0], [2, 1])), [A[2], A[3]]);
add("index_Tensor", [[A, [2, 3]]], (t) => ops.index_Tensor(t, [i64([1, 0]), i64([2, 1])]), [A[5], A[1]]);
add("embedding", [[M, [3, 2]]], (t) => ops.embedding(t, i64([2, 0])), [M[4], M[5], M[0], M[1]]);
add(
  "masked_fill_Scalar",
  [[A, [2, 3]]],
  (t) => ops.masked_fill_Scalar(t, ops.gt_Scalar(ops.detach(t), 0), 5),
  A.map((x) => (x > 0 ? 5 : x)),
);
// In place, on a copy that autograd follows.
const inPlace = (name: string, run: (t: Tensor) => Tensor, want: number[]) => add(name, [[A, [2, 3]]], (t) => run(ops.clone(t)), want);
inPlace(
  "add__Scalar",
  (t) => ops.add__Scalar(t, 2),
  A.map((x) => x + 2),
);
inPlace(
  "mul__Scalar",
  (t) => ops.mul__Scalar(t, 2),
  A.map((x) => x * 2),
);
inPlace(
  "div__Scalar",
  (t) => ops.div__Scalar(t, 2),
  A.map((x) => x / 2),
);
inPlace(
  "clamp_",
  (t) => ops.clamp_(t, -1, 1),
  A.map((x) => Math.min(1, Math.max(-1, x))),
);
inPlace(
  "silu_",
  (t) => ops.silu_(t),
  A.map((x) => x * sig(x)),
);
inPlace(
  "fill__Scalar",
  (t) => ops.fill__Scalar(t, 3),
  A.map(() => 3),
);
inPlace(
  "zero_",
  (t) => ops.zero_(t),
  A.map(() => 0),
);
const inPlace2 = (name: string, run: (t: Tensor, o: Tensor) => Tensor, f: (a: number, b: number) => number) =>
  add(
    name,
    [
      [A, [2, 3]],
      [B, [2, 3]],
    ],
    (t, o) => run(ops.clone(t), o),
    A.map((x, i) => f(x, B[i])),
  );
inPlace2(
  "add__Tensor",
  (t, o) => ops.add__Tensor(t, o, 3),
  (a, b) => a + 3 * b,
);
inPlace2(
  "sub__Tensor",
  (t, o) => ops.sub__Tensor(t, o),
  (a, b) => a - b,
);
inPlace2(
  "mul__Tensor",
  (t, o) => ops.mul__Tensor(t, o),
  (a, b) => a * b,
);
inPlace2(
  "div__Tensor",
  (t, o) => ops.div__Tensor(t, o),
  (a, b) => a / b,
);
inPlace2(
  "copy_",
  (t, o) => ops.copy_(t, o),
  (_, b) => b,
);
inPlace2(
  "lerp__Scalar",
  (t, o) => ops.lerp__Scalar(t, o, 0.25),
  (a, b) => a + 0.25 * (b - a),
);
inPlace2(
  "addcmul_",
  (t, o) => ops.addcmul_(t, o, o, 2),
  (a, b) => a + 2 * b * b,
);
inPlace2(
  "addcdiv_",
  (t, o) => ops.addcdiv_(t, o, ops.exp(o), 2),
  (a, b) => a + (2 * b) / Math.exp(b),
);
add(
  "index_add_",
  [
    [A, [2, 3]],
    [B.slice(0, 3), [1, 3]],
  ],
  (t, o) => ops.index_add_(ops.clone(t), 0, i64([1]), o),
  A.map((x, i) => (i < 3 ? x : x + B[i - 3])),
);
// Making tensors.
const made = (name: string, run: () => Tensor, want: number[]) => add(name, [], run, want, { grad: false });
made("arange_start_step", () => ops.arange_start_step(1, 4, 1, DOUBLE), [1, 2, 3]);
made("eye", () => ops.eye(2, DOUBLE), [1, 0, 0, 1]);
made("full", () => ops.full([2], 3.5, DOUBLE), [3.5, 3.5]);
made("linspace", () => ops.linspace(0, 1, 3, DOUBLE), [0, 0.5, 1]);
made("ones", () => ops.ones([2], DOUBLE), [1, 1]);
made("zeros", () => ops.zeros([2], DOUBLE), [0, 0]);
// Lists of tensors, in place.
const list = (name: string, run: (t: Tensor[], o: Tensor[]) => void, f: (a: number, b: number) => number) =>
  add(
    name,
    [
      [A, [2, 3]],
      [B, [2, 3]],
    ],
    (t, o) => {
      const copies = [ops.clone(t)];
      noGrad(() => run(copies, [o]));
      return copies[0];
    },
    A.map((x, i) => f(x, B[i])),
    { grad: false },
  );
list(
  "_foreach_add__Scalar",
  (t) => ops._foreach_add__Scalar(t, 2),
  (a) => a + 2,
);
list(
  "_foreach_mul__Scalar",
  (t) => ops._foreach_mul__Scalar(t, 2),
  (a) => a * 2,
);
list(
  "_foreach_add__List",
  (t, o) => ops._foreach_add__List(t, o, 2),
  (a, b) => a + 2 * b,
);
list(
  "_foreach_addcmul__Scalar",
  (t, o) => ops._foreach_addcmul__Scalar(t, o, o, 2),
  (a, b) => a + 2 * b * b,
);
list(
  "_foreach_addcdiv__Scalar",
  (t, o) => ops._foreach_addcdiv__Scalar(t, o, o, 2),
  (a) => a + 2,
);
add("_foreach_sqrt", [[P, [2, 3]]], (t) => ops._foreach_sqrt([t])[0], P.map(Math.sqrt), { grad: false });

/** Operators with a test of their own elsewhere, and where. */
const elsewhere: Record<string, string> = {
  _backward: "every gradient below",
  _local_scalar_dense: "item(), below",
  allclose: "below",
  equal: "below",
  randn_generator: "random.test.ts",
  rand_generator: "random.test.ts",
  randint_low_generator: "random.test.ts",
  randperm_generator: "random.test.ts",
  normal_: "random.test.ts",
  uniform_: "random.test.ts",
  _fused_adamw_: "optim.test.ts, where libtorch has it",
  scaled_dot_product_attention: "functional.test.ts, where libtorch has it",
};

describe("operators", () => {
  for (const c of cases) {
    it(`${c.op}${c.note ? ` (${c.note})` : ""}`, () =>
      scope(() => {
        const inputs = c.inputs.map(([v, s]) => f64(v, s));
        const out = c.run(...inputs);
        const got = [...out.data()].map(Number);
        expect(got.length).toBe(c.want.length);
        got.forEach((x, i) => expect(x, `element ${i}`).toBeCloseTo(c.want[i], 10));
        if (c.grad === false) return;
        // d (out · weight) / d input by central differences.
        const weight = f64(
          got.map((_, i) => Math.cos(i + 1)),
          [...out.shape],
        );
        const leaves = c.inputs.map(([v, s]) => f64(v, s).requiresGrad_());
        const gradients = grad(
          c
            .run(...leaves)
            .mul(weight)
            .sum(),
          leaves,
        );
        c.inputs.forEach(([v, s], k) => {
          v.forEach((_, i) => {
            const at = (d: number) =>
              noGrad(() =>
                c
                  .run(...c.inputs.map(([w, t], m) => f64(m === k ? w.map((x, j) => (j === i ? x + d : x)) : w, t)))
                  .mul(weight)
                  .sum()
                  .item(),
              );
            const numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            const analytic = gradients[k] ? Number(gradients[k]!.data()[i]) : 0;
            expect(Math.abs(analytic - numeric), `input ${k} [${s}], element ${i}: ${analytic} against ${numeric}`).toBeLessThanOrEqual(
              1e-4 + 1e-3 * Math.abs(numeric),
            );
          });
        });
      }));
  }

  it("equal, allclose, item", () =>
    scope(() => {
      const on = (values: number[]) => tensor(values, { device });
      const a = on([1, 2]);
      expect(ops.equal(a, on([1, 2]))).toBe(true);
      expect(ops.equal(a, on([1, 3]))).toBe(false);
      expect(ops.allclose(a, on([1, 2.000001]))).toBe(true);
      expect(ops.allclose(a, on([1, 2.1]))).toBe(false);
      expect(on([4.5]).item()).toBe(4.5);
    }));

  it("every operator that is bound is tested", () => {
    const tested = new Set([...cases.map((c) => c.op), ...Object.keys(elsewhere)]);
    expect(Object.keys(table).filter((name) => !tested.has(name))).toEqual([]);
  });

  it("an operator this libtorch lacks says so", () => {
    if (table._fused_adamw_.exists) return;
    expect(() => ops._fused_adamw_([], [], [], [], [], [], 0, 0, 0, 0, 0, false, false)).toThrow(
      /libtorch .* has no operator aten::_fused_adamw_/,
    );
  });
});
