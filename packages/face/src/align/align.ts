/** Similarity alignment of a face to a template. */
import { applyAffine, type Affine } from "@make-your-anchor/media";
import { similarity } from "./similarity.ts";
import { templates, type FivePoints, type TemplateName } from "./templates.ts";

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
