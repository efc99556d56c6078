/** What an operator is tried with, and how a table of such cases is written. */
import { fromData, type Tensor } from "../../packages/torch/src/index.ts";

/** `npm run gpu-check` runs the table on a GPU. */
export const device = process.env.ANCHOR_TEST_DEVICE ?? "cpu";
export const f64 = (values: number[], shape: number[]) => fromData(Float64Array.from(values), shape, { device });
export const i64 = (values: number[], shape = [values.length]) => fromData(BigInt64Array.from(values, BigInt), shape, { device });
export const DOUBLE = 7;

// Fixed inputs, away from kinks.
export const A = [0.7, -1.3, 2.1, 0.4, -0.6, 1.9]; // [2, 3]
export const B = [1.2, 0.5, -0.8, 2.2, 1.1, -1.7]; // [2, 3]
export const P = [0.7, 1.3, 2.1, 0.4, 0.6, 1.9]; // positive
export const M = [0.3, -0.2, 1.1, 0.9, -0.7, 0.5]; // [3, 2]

export interface Case {
  /** Operator, as in `ops`. */
  op: string;
  inputs: [number[], number[]][];
  run: (...t: Tensor[]) => Tensor;
  want: number[];
  /** False where no gradient is defined (comparisons, whole numbers). */
  grad?: boolean;
  note?: string;
}

export const cases: Case[] = [];
export const add = (
  name: string,
  inputs: [number[], number[]][],
  run: (...t: Tensor[]) => Tensor,
  want: number[],
  options: { grad?: boolean; note?: string } = {},
) => cases.push({ op: name, inputs, run, want, ...options });
export const unary = (name: string, run: (t: Tensor) => Tensor, f: (x: number) => number, input = A, g = true) =>
  add(name, [[input, [2, 3]]], run, input.map(f), { grad: g });
export const binary = (name: string, run: (a: Tensor, b: Tensor) => Tensor, f: (a: number, b: number) => number, g = true) => {
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
export const erf = (x: number) => {
  // Series: exact enough for |x| < 3.
  let [sum, term] = [0, x];
  for (let n = 0; n < 60; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
};
export const sig = (x: number) => 1 / (1 + Math.exp(-x));
export const mm = (a: number[], b: number[], n: number, k: number, m: number) =>
  Array.from({ length: n * m }, (_, i) =>
    Array.from({ length: k }, (_, j) => a[Math.floor(i / m) * k + j] * b[j * m + (i % m)]).reduce((x, y) => x + y, 0),
  );
export const sum = (v: number[]) => v.reduce((x, y) => x + y, 0);
export const mean = (v: number[]) => sum(v) / v.length;
/** [2, 3] transposed. */
export const T23 = (v: number[]) => [v[0], v[3], v[1], v[4], v[2], v[5]];
