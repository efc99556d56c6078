/** What networks' layers are made of: convolutions, norms, pools. */
import { ops } from "../../packages/torch/src/index.ts";
import { f64, A, add, mean } from "./cases.ts";

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
