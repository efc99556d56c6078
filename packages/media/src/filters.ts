/** Filters of one float plane `[height, width]`, as OpenCV has them. */

interface Size {
  width: number;
  height: number;
}

/** Smallest (or largest) value in a window `before` places back and `after` ahead along one axis; beyond the border nothing counts. */
function alongAxis(plane: Float32Array, count: number, step: number, lines: number, lineStep: number, before: number, after: number) {
  const out = new Float32Array(plane.length);
  // A queue of places whose values rise: its first is the window's smallest.
  const queue = new Int32Array(count);
  for (let line = 0; line < lines; line++) {
    const base = line * lineStep;
    let [head, tail, next] = [0, 0, 0];
    for (let i = 0; i < count; i++) {
      for (; next < Math.min(count, i + after + 1); next++) {
        const v = plane[base + next * step];
        while (tail > head && plane[base + queue[tail - 1] * step] >= v) tail--;
        queue[tail++] = next;
      }
      while (queue[head] < i - before) head++;
      out[base + i * step] = plane[base + queue[head] * step];
    }
  }
  return out;
}

/** `cv2.erode` with a box of `size`×`size`, anchor at `size >> 1`, once: outside the picture everything counts as solid. */
export function erodeBox(plane: Float32Array, { width, height }: Size, size: number): Float32Array {
  const before = size >> 1;
  const after = size - 1 - before;
  const rows = alongAxis(plane, width, 1, height, width, before, after);
  return alongAxis(rows, height, width, width, 1, before, after);
}

/** `cv2.dilate` with a box of `size`×`size`, once. */
export function dilateBox(plane: Float32Array, size: Size, box: number): Float32Array {
  return erodeBox(
    plane.map((v) => -v),
    size,
    box,
  ).map((v) => -v);
}

/** `cv2.GaussianBlur` with an odd `taps`, borders mirrored without repeating the edge (reflect-101). */
export function gaussianBlur(plane: Float32Array, { width, height }: Size, taps: number, sigma: number): Float32Array {
  const radius = taps >> 1;
  const kernel = Float64Array.from({ length: taps }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const total = kernel.reduce((a, b) => a + b, 0);
  const mirrored = (i: number, n: number): number => {
    if (n === 1) return 0;
    const period = 2 * (n - 1);
    const m = ((i % period) + period) % period;
    return m < n ? m : period - m;
  };
  const along = (from: Float32Array, count: number, step: number, lines: number, lineStep: number) => {
    const out = new Float32Array(from.length);
    const padded = new Float64Array(count + 2 * radius);
    for (let line = 0; line < lines; line++) {
      const base = line * lineStep;
      for (let i = 0; i < padded.length; i++) padded[i] = from[base + mirrored(i - radius, count) * step];
      for (let i = 0; i < count; i++) {
        let sum = 0;
        for (let k = 0; k < taps; k++) sum += kernel[k] * padded[i + k];
        out[base + i * step] = sum / total;
      }
    }
    return out;
  };
  return along(along(plane, width, 1, height, width), height, width, width, 1);
}
