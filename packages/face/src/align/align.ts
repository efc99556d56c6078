/** Similarity alignment of a face to a template. */
import { applyAffine, type Affine } from "@make-your-anchor/media";
import { templates, type FivePoints, type TemplateName } from "./templates.ts";

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

export interface Alignment {
  /** From the picture to the crop. */
  readonly matrix: Affine;
  /** Which of the candidates fitted best. */
  readonly template: number;
}

/**
 * Brings five points to a template for a crop of `size`×`size`.
 * @param points in pixels of the picture: left eye, right eye, nose, left and right mouth corner, left as seen in the picture
 * @returns null where the points coincide
 */
export function alignFace(points: FivePoints, size: number, name: TemplateName = "ffhq"): Alignment | null {
  let best: (Alignment & { error: number }) | null = null;
  for (const [template, wanted] of templates(name, size).entries()) {
    const matrix = similarity(points, wanted);
    if (!matrix) continue;
    const error = points.reduce((sum, [x, y], i) => {
      const [u, v] = applyAffine(matrix, x, y);
      return sum + Math.hypot(u - wanted[i][0], v - wanted[i][1]);
    }, 0);
    if (!best || error < best.error) best = { matrix, template, error };
  }
  return best && { matrix: best.matrix, template: best.template };
}
