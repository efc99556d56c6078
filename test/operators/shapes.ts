/** Shapes, indexing, in place, making tensors, lists of them. */
import { noGrad, ops, type Tensor } from "../../packages/torch/src/index.ts";
import { i64, DOUBLE, A, B, P, M, add, sig, T23 } from "./cases.ts";

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
