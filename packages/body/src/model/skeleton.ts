/** The SMPL-X skeleton: names, parents, and the points picked from the surface. */

/** In the order of the kinematic tree. */
export const jointNames = [
  ..."pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist jaw left_eye right_eye".split(
    " ",
  ),
  ...["left", "right"].flatMap((side) =>
    ["index", "middle", "pinky", "ring", "thumb"].flatMap((finger) => [1, 2, 3].map((i) => `${side}_${finger}${i}`)),
  ),
] as const;

export const jointCount = 55;

export const parents: readonly number[] = [
  -1,
  0,
  0,
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  9,
  9,
  12,
  13,
  14,
  16,
  17,
  18,
  19,
  15,
  15,
  15,
  ...[20, 21].flatMap((wrist, side) => Array.from({ length: 15 }, (_, i) => (i % 3 === 0 ? wrist : 25 + side * 15 + i - 1))),
];

export const jointIndex = (name: string): number => {
  const i = (jointNames as readonly string[]).indexOf(name);
  if (i < 0) throw new Error(`no joint "${name}"`);
  return i;
};

/** The 21 surface points that follow the 55 joints in the output, in smplx's order. */
export const pickedNames = [
  "nose",
  "reye",
  "leye",
  "rear",
  "lear",
  "LBigToe",
  "LSmallToe",
  "LHeel",
  "RBigToe",
  "RSmallToe",
  "RHeel",
  "lthumb",
  "lindex",
  "lmiddle",
  "lring",
  "lpinky",
  "rthumb",
  "rindex",
  "rmiddle",
  "rring",
  "rpinky",
] as const;
export type PickedName = (typeof pickedNames)[number];
export type VertexIds = Readonly<Record<PickedName, number>>;

/** Vertices of the published SMPL-X mesh. Source: smplx `vertex_ids.py`. */
export const smplxVertexIds: VertexIds = {
  nose: 9120,
  reye: 9929,
  leye: 9448,
  rear: 616,
  lear: 6,
  LBigToe: 5770,
  LSmallToe: 5780,
  LHeel: 8846,
  RBigToe: 8463,
  RSmallToe: 8474,
  RHeel: 8635,
  lthumb: 5361,
  lindex: 4933,
  lmiddle: 5058,
  lring: 5169,
  lpinky: 5286,
  rthumb: 8079,
  rindex: 7669,
  rmiddle: 7794,
  rring: 7905,
  rpinky: 8022,
};
