/**
 * Where a hand's landmark model wants to look. It learnt from upright square pictures of hands (wrist below, fingers above); the first look only has a
 * box along the picture's axes, and stretches what lies in it. So a hand that was found is looked at again, turned upright, by where it was found.
 */
import type { RgbImage } from "@make-your-anchor/media";

type XY = readonly [number, number];
type XYZ = readonly [number, number, number];

/** A turned square: its middle, half of its side along its own x axis, and along its own y axis; pixels of the picture. */
export interface HandCrop {
  center: XY;
  /** Middle of the right edge less the centre. */
  right: XY;
  /** Middle of the lower edge less the centre: from the fingers to the wrist. */
  down: XY;
}

/** Points that stay in place however the fingers bend: wrist, thumb without its tip, and of each finger the knuckle and the joint after it. */
const steady = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18];
/** Side of the square over the longer extent of the steady points, and how far it is moved towards the fingers, in their extent. */
const scale = 2;
const towardsFingers = 0.1;

/** The square around a hand's 21 points, as the model's authors cut it from the points of the picture before. */
export function handCrop(points: readonly XY[]): HandCrop {
  const [w, i, m, r] = [points[0], points[6], points[10], points[14]];
  const to = [0, 1].map((k) => ((i[k] + r[k]) / 2 + m[k]) / 2 - w[k]);
  const length = Math.hypot(to[0], to[1]);
  const y = length > 0 ? [-to[0] / length, -to[1] / length] : [0, 1];
  const x = [y[1], -y[0]];
  const extent = (axis: readonly number[]): [number, number] => {
    const along = steady.map((k) => points[k][0] * axis[0] + points[k][1] * axis[1]);
    return [Math.min(...along), Math.max(...along)];
  };
  const [[x0, x1], [y0, y1]] = [extent(x), extent(y)];
  const half = (Math.max(x1 - x0, y1 - y0) * scale) / 2;
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2 - towardsFingers * (y1 - y0)];
  return {
    center: [cx * x[0] + cy * y[0], cx * x[1] + cy * y[1]],
    right: [half * x[0], half * x[1]],
    down: [half * y[0], half * y[1]],
  };
}

/** Points of one hand found twice lie nearer to one another than this, on average, in its own length. */
const same = 0.25;

/** Hands without those that were found a second time, often as one of another kind: the surer stay. */
export function distinctHands<H extends { score: number; keypoints: readonly XYZ[] }>(hands: readonly H[]): H[] {
  const kept: H[] = [];
  for (const hand of hands.toSorted((a, b) => b.score - a.score)) {
    const away = ([x, y]: XYZ, [u, v]: XYZ) => Math.hypot(x - u, y - v);
    const again = kept.some(({ keypoints }) => {
      const length = Math.max(...keypoints.map((p) => away(p, keypoints[0])));
      const sum = hand.keypoints.reduce((s, p, k) => s + away(p, keypoints[k] ?? p), 0);
      return hand.keypoints.length === keypoints.length && sum < same * length * keypoints.length;
    });
    if (!again) kept.push(hand);
  }
  return kept;
}

/** A place of the crop, 0..1 to the right and down, on the picture. */
export const placeIn = (c: HandCrop, u: number, v: number): [number, number] => [
  c.center[0] + (2 * u - 1) * c.right[0] + (2 * v - 1) * c.down[0],
  c.center[1] + (2 * u - 1) * c.right[1] + (2 * v - 1) * c.down[1],
];

/** The crop's picture `[side, side, 3]`, 0..1; black beside the picture. */
export function cutHand({ width, height, data }: RgbImage, crop: HandCrop, side: number): Float32Array {
  const out = new Float32Array(side * side * 3);
  const {
    center: [cx, cy],
    right: [rx, ry],
    down: [dx, dy],
  } = crop;
  for (let j = 0, o = 0; j < side; j++) {
    const t = (2 * (j + 0.5)) / side - 1;
    for (let i = 0; i < side; i++, o += 3) {
      const s = (2 * (i + 0.5)) / side - 1;
      const x = cx + s * rx + t * dx - 0.5; // pixel centres lie at halves
      const y = cy + s * ry + t * dy - 0.5;
      const a = Math.floor(x);
      const b = Math.floor(y);
      const u = x - a;
      const v = y - b;
      for (let n = 0; n < 4; n++) {
        const k = a + (n & 1);
        const l = b + (n >> 1);
        if (k < 0 || l < 0 || k >= width || l >= height) continue;
        const weight = ((n & 1 ? u : 1 - u) * (n >> 1 ? v : 1 - v)) / 255;
        const p = 3 * (l * width + k);
        out[o] += weight * data[p];
        out[o + 1] += weight * data[p + 1];
        out[o + 2] += weight * data[p + 2];
      }
    }
  }
  return out;
}
