/** Least-squares similarity between two sets of points. */
import type { Affine } from "@make-your-anchor/media";
import type { FivePoints } from "./templates.ts";

/**
 * The rotation, uniform scale and shift that bring `from` nearest to `to` in the least-squares sense, without reflection: Umeyama 1991
 * in two dimensions, where it has a closed form. Coinciding points give null.
 */
export function similarity(from: FivePoints, to: FivePoints): Affine | null {
  const n = from.length;
  const mean = (points: FivePoints, k: 0 | 1) => points.reduce((sum, p) => sum + p[k], 0) / n;
  const [fx, fy, tx, ty] = [mean(from, 0), mean(from, 1), mean(to, 0), mean(to, 1)];
  let [along, across, spread] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [x, y, u, v] = [from[i][0] - fx, from[i][1] - fy, to[i][0] - tx, to[i][1] - ty];
    along += x * u + y * v;
    across += x * v - y * u;
    spread += x * x + y * y;
  }
  if (!(spread > 0) || !Number.isFinite(along + across)) return null;
  const [a, b] = [along / spread, across / spread];
  if (a === 0 && b === 0) return null;
  return [a, -b, tx - a * fx + b * fy, b, a, ty - b * fx - a * fy];
}
