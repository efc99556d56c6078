/** Where five face points are wanted in a crop: left eye, right eye, nose, left and right mouth corner, left as seen in the picture. */

export type FivePoints = readonly (readonly [x: number, y: number])[];

/** FFHQ's, for a crop of 512. */
const ffhq: FivePoints = [
  [192.98138, 239.94708],
  [318.90277, 240.1936],
  [256.63416, 314.01935],
  [201.26117, 371.41043],
  [313.08905, 371.15118],
];

/** ArcFace's five views from the left profile to the right one (InsightFace), for a crop of 112. */
const arcFace: readonly FivePoints[] = [
  [
    [51.642, 50.115],
    [57.617, 49.99],
    [35.74, 69.007],
    [51.157, 89.05],
    [57.025, 89.702],
  ],
  [
    [45.031, 50.118],
    [65.568, 50.872],
    [39.677, 68.111],
    [45.177, 86.19],
    [64.246, 86.758],
  ],
  [
    [39.73, 51.138],
    [72.27, 51.138],
    [56.0, 68.493],
    [42.463, 87.01],
    [69.537, 87.01],
  ],
  [
    [46.845, 50.872],
    [67.382, 50.118],
    [72.737, 68.111],
    [48.167, 86.758],
    [67.236, 86.19],
  ],
  [
    [54.796, 49.99],
    [60.771, 50.115],
    [76.673, 69.007],
    [55.388, 89.702],
    [61.257, 89.05],
  ],
];

/** `ffhq`; `large_ffhq`, the same with more around it; `arcface`, of five views the one that fits best. */
export type TemplateName = "ffhq" | "large_ffhq" | "arcface";

const scaled = (points: FivePoints, factor: number, shift = 0): FivePoints =>
  points.map(([x, y]) => [x * factor + shift, y * factor + shift]);

/** The candidates for a crop of `size`×`size`. */
export function templates(name: TemplateName, size: number): readonly FivePoints[] {
  if (name === "arcface") return arcFace.map((view) => scaled(view, size / 112));
  return [name === "ffhq" ? scaled(ffhq, size / 512) : scaled(scaled(ffhq, 1 / 1.5, 110), size / 512)];
}
