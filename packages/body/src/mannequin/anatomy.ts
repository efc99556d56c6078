/**
 * Proportions of the mannequin: joints, solids and landmarks of an average adult of 1.75 m in T-pose, our own drawing. Metres;
 * x to the subject's left, y up, z forward; the left side is given, the right is its mirror.
 */
import { jointCount, jointIndex, jointNames } from "../model/skeleton.ts";
import { ball, blend, carve, ellipsoid, mirrorVec, pair, roundCone, smoothMin, union, type Field, type Vec3 } from "./sdf.ts";

const leftAndMiddle: Record<string, Vec3> = {
  pelvis: [0, -0.33, 0],
  left_hip: [0.088, -0.415, -0.005],
  spine1: [0, -0.22, -0.02],
  left_knee: [0.102, -0.82, 0],
  spine2: [0, -0.09, -0.02],
  left_ankle: [0.098, -1.22, -0.03],
  spine3: [0, -0.02, -0.015],
  left_foot: [0.115, -1.285, 0.085],
  neck: [0, 0.165, -0.025],
  left_collar: [0.045, 0.085, -0.02],
  head: [0, 0.245, 0.0],
  left_shoulder: [0.165, 0.115, -0.02],
  left_elbow: [0.425, 0.112, -0.025],
  left_wrist: [0.67, 0.112, -0.022],
  jaw: [0, 0.272, 0.01],
  left_eye: [0.032, 0.333, 0.0752],
};

/** Finger roots, direction and phalanx lengths of the left hand. */
const fingers: Record<string, { root: Vec3; direction: Vec3; lengths: Vec3; radii: readonly [number, number] }> = {
  index: { root: [0.762, 0.115, 0.012], direction: [1, -0.03, 0.13], lengths: [0.036, 0.023, 0.021], radii: [0.0092, 0.007] },
  middle: { root: [0.766, 0.117, -0.012], direction: [1, -0.03, 0.015], lengths: [0.04, 0.026, 0.022], radii: [0.0094, 0.0071] },
  pinky: { root: [0.744, 0.111, -0.054], direction: [1, -0.04, -0.22], lengths: [0.029, 0.018, 0.018], radii: [0.0078, 0.006] },
  ring: { root: [0.758, 0.115, -0.035], direction: [1, -0.03, -0.1], lengths: [0.036, 0.024, 0.022], radii: [0.0088, 0.0067] },
  thumb: { root: [0.694, 0.104, 0.012], direction: [0.66, -0.12, 0.74], lengths: [0.038, 0.031, 0.026], radii: [0.0125, 0.0088] },
};

const along = (a: Vec3, d: Vec3, length: number): Vec3 => {
  const n = Math.hypot(...d);
  return [a[0] + (d[0] / n) * length, a[1] + (d[1] / n) * length, a[2] + (d[2] / n) * length];
};

/** The points of a finger: three joints and the tip. */
export function fingerPoints(name: string): Vec3[] {
  const { root, direction, lengths } = fingers[name];
  const points: Vec3[] = [root];
  for (const length of lengths) points.push(along(points[points.length - 1], direction, length));
  return points;
}

/** `[55]` joint positions. */
export const jointPositions: readonly Vec3[] = jointNames.map((name) => {
  const left = name.replace("right_", "left_");
  const finger = /^left_(index|middle|pinky|ring|thumb)([123])$/.exec(left);
  const at = finger ? fingerPoints(finger[1])[Number(finger[2]) - 1] : leftAndMiddle[left];
  return name.startsWith("right_") ? mirrorVec(at) : at;
});

const J = (name: string): Vec3 => jointPositions[jointIndex(name)];

export const eyeRadius = 0.0135;
export const eyeCenter = J("left_eye");
/** Height of the line between the lips, by distance from the middle. */
export const mouthLine = (x: number): number => 0.2502 - 2.2 * x * x;
export const mouthHalfWidth = 0.0235;

// --- solids -------------------------------------------------------------------------------------------------------------
const arm = blend(
  0.03,
  roundCone(J("left_shoulder"), J("left_elbow"), 0.051, 0.04),
  ball([0.185, 0.112, -0.02], 0.056),
  roundCone([0.43, 0.112, -0.025], [0.5, 0.112, -0.025], 0.041, 0.043),
  roundCone([0.5, 0.112, -0.025], [0.7, 0.112, -0.022], 0.042, 0.0265),
);
const leg = blend(
  0.04,
  roundCone([0.09, -0.43, 0], J("left_knee"), 0.092, 0.056),
  roundCone(J("left_knee"), [0.1, -0.97, -0.012], 0.055, 0.056),
  roundCone([0.1, -0.97, -0.012], J("left_ankle"), 0.055, 0.038),
  roundCone([0.098, -1.265, -0.065], [0.118, -1.285, 0.12], 0.036, 0.027),
);
const torso = blend(
  0.07,
  ellipsoid([0, -0.36, -0.005], [0.168, 0.105, 0.115]),
  ellipsoid([0, -0.23, 0.0], [0.142, 0.14, 0.102]),
  ellipsoid([0, -0.02, -0.01], [0.158, 0.17, 0.112]),
  roundCone([-0.115, 0.085, -0.02], [0.115, 0.085, -0.02], 0.07, 0.07),
);
const shoulders = blend(
  0.05,
  torso,
  pair(roundCone([0.12, 0.118, -0.025], [0.03, 0.175, -0.03], 0.038, 0.04)),
  pair(ellipsoid([0.07, 0.03, 0.06], [0.075, 0.06, 0.045])),
  pair(ellipsoid([0.075, -0.4, -0.06], [0.08, 0.09, 0.075])),
);
const neck = roundCone([0, 0.13, -0.03], [0, 0.27, -0.01], 0.06, 0.055);

export const bodyField: Field = (x, y, z) => {
  const trunk = smoothMin(shoulders(x, y, z), neck(x, y, z), 0.05);
  const limbs = smoothMin(trunk, arm(Math.abs(x), y, z), 0.05);
  return smoothMin(limbs, leg(Math.abs(x), y, z), 0.05);
};

const palm = blend(
  0.018,
  roundCone([0.665, 0.112, -0.022], [0.7, 0.112, -0.022], 0.0262, 0.02),
  roundCone([0.695, 0.111, -0.002], [0.757, 0.115, 0.01], 0.0145, 0.0125),
  roundCone([0.695, 0.111, -0.022], [0.76, 0.116, -0.013], 0.0155, 0.0125),
  roundCone([0.695, 0.111, -0.036], [0.75, 0.114, -0.035], 0.0145, 0.012),
  roundCone([0.69, 0.11, -0.042], [0.738, 0.111, -0.052], 0.0125, 0.0105),
  ellipsoid([0.705, 0.1, 0.012], [0.026, 0.015, 0.019]),
);
const fingerFields = Object.keys(fingers).map((name) => {
  const points = fingerPoints(name);
  const [from, to] = fingers[name].radii;
  const radius = (i: number) => from + ((to - from) * i) / 3;
  return blend(0.006, ...[0, 1, 2].map((i) => roundCone(points[i], points[i + 1], radius(i), radius(i + 1))));
});
const allFingers = union(...fingerFields);
/** The left hand and the end of its forearm. */
export const handField: Field = (x, y, z) => smoothMin(smoothMin(palm(x, y, z), arm(x, y, z), 0.02), allFingers(x, y, z), 0.009);

const skull = blend(
  0.03,
  ellipsoid([0, 0.358, -0.012], [0.0755, 0.09, 0.094]),
  ellipsoid([0, 0.292, 0.022], [0.06, 0.072, 0.069]),
  ball([0, 0.2265, 0.071], 0.0185),
  pair(roundCone([0.048, 0.262, 0.0], [0.018, 0.227, 0.066], 0.02, 0.017)),
  pair(ellipsoid([0.044, 0.298, 0.058], [0.022, 0.02, 0.022])),
);
const brow = pair(roundCone([0.01, 0.353, 0.0855], [0.044, 0.354, 0.071], 0.0105, 0.009));
const nose = blend(0.012, roundCone([0, 0.338, 0.087], [0, 0.29, 0.1125], 0.0075, 0.0115), pair(ball([0.0115, 0.285, 0.1005], 0.0085)));
const lips = union(
  roundCone([0, 0.2555, 0.0935], [0.02, 0.2515, 0.083], 0.0078, 0.0045),
  roundCone([0, 0.2555, 0.0935], [-0.02, 0.2515, 0.083], 0.0078, 0.0045),
  roundCone([0, 0.2445, 0.0925], [0.018, 0.2475, 0.0825], 0.0085, 0.0045),
  roundCone([0, 0.2445, 0.0925], [-0.018, 0.2475, 0.0825], 0.0085, 0.0045),
);
const sockets = pair(ellipsoid([0.032, 0.3335, 0.097], [0.0185, 0.0128, 0.0185]));
const ears = pair(ellipsoid([0.079, 0.313, -0.012], [0.0075, 0.03, 0.0185]));
const face = blend(0.01, carve(0.012, blend(0.014, skull, brow), sockets), nose, lips, ears);
/** Head and the upper end of the neck. */
export const headField: Field = (x, y, z) => smoothMin(face(x, y, z), smoothMin(neck(x, y, z), shoulders(x, y, z), 0.05), 0.035);

// --- what moves what ---------------------------------------------------------------------------------------------------
/** Segments with a radius for each joint: a vertex follows the joints whose segments are near. */
export interface Influence {
  joint: number;
  a: Vec3;
  b: Vec3;
  r: number;
}

const bodyInfluences: readonly (readonly [string, Vec3, Vec3, number])[] = [
  ["pelvis", [-0.08, -0.36, 0], [0.08, -0.36, 0], 0.12],
  ["spine1", [-0.05, -0.22, 0], [0.05, -0.22, 0], 0.1],
  ["spine2", [-0.06, -0.1, 0], [0.06, -0.1, 0], 0.1],
  ["spine3", [-0.06, 0.02, 0], [0.06, 0.02, 0], 0.105],
  ["left_collar", [0.06, 0.1, -0.02], [0.125, 0.108, -0.02], 0.06],
  ["neck", [0, 0.17, -0.025], [0, 0.215, -0.015], 0.056],
  ["left_hip", J("left_hip"), [0.1, -0.74, 0], 0.085],
  ["left_knee", J("left_knee"), [0.1, -1.15, -0.02], 0.055],
  ["left_ankle", J("left_ankle"), [0.105, -1.28, 0.04], 0.04],
  ["left_foot", J("left_foot"), [0.12, -1.29, 0.14], 0.034],
  ["left_shoulder", [0.19, 0.114, -0.02], [0.4, 0.112, -0.025], 0.05],
  ["left_elbow", [0.45, 0.112, -0.025], [0.645, 0.112, -0.023], 0.042],
  ["left_wrist", [0.69, 0.112, -0.022], [0.735, 0.113, -0.02], 0.03],
  ["head", [0, 0.3, 0.0], [0, 0.36, 0.0], 0.085],
];
const both = (list: readonly (readonly [string, Vec3, Vec3, number])[]): Influence[] =>
  list.flatMap(([name, a, b, r]) => {
    const one = { joint: jointIndex(name), a, b, r };
    return name.startsWith("left_")
      ? [one, { joint: jointIndex(name.replace("left_", "right_")), a: mirrorVec(a), b: mirrorVec(b), r }]
      : [one];
  });
export const trunkInfluences: readonly Influence[] = both(bodyInfluences);

const fingerInfluences = Object.entries(fingers).flatMap(([name, { radii }]) => {
  const p = fingerPoints(name);
  return [0, 1, 2].map(
    (i) =>
      [
        `left_${name}${i + 1}`,
        along(p[i], [p[i + 1][0] - p[i][0], p[i + 1][1] - p[i][1], p[i + 1][2] - p[i][2]], 0.004),
        p[i + 1],
        radii[0] + ((radii[1] - radii[0]) * (i + 0.5)) / 3,
      ] as const,
  );
});
/** For the left hand. */
export const handInfluences: readonly Influence[] = [
  ...fingerInfluences.map(([name, a, b, r]) => ({ joint: jointIndex(name), a, b, r })),
  { joint: jointIndex("left_wrist"), a: [0.68, 0.112, -0.022], b: [0.742, 0.113, -0.028], r: 0.02 },
  { joint: jointIndex("left_wrist"), a: [0.685, 0.11, -0.01], b: [0.745, 0.114, 0.006], r: 0.016 },
  { joint: jointIndex("left_elbow"), a: [0.45, 0.112, -0.025], b: [0.652, 0.112, -0.022], r: 0.034 },
];

// --- points on the surface -----------------------------------------------------------------------------------------------
const eyePoint = (across: number, up: number): Vec3 => {
  // On the lids' sphere, by angles in degrees.
  const [a, p] = [(across * Math.PI) / 180, (up * Math.PI) / 180];
  const r = eyeRadius * 1.09;
  return [eyeCenter[0] + r * Math.sin(a), eyeCenter[1] + r * Math.cos(a) * Math.sin(p), eyeCenter[2] + r * Math.cos(a) * Math.cos(p)];
};
export const lidRest = { upper: 24, lower: -20, far: 82 } as const;

const leftBrow: Vec3[] = [
  [0.012, 0.353, 0.1],
  [0.021, 0.357, 0.098],
  [0.031, 0.358, 0.094],
  [0.041, 0.356, 0.085],
  [0.049, 0.35, 0.074],
];
const mouthRing = (half: number, up: number, down: number, n: number): Vec3[] => {
  // From the subject's right corner over the top to the left corner and back underneath.
  const out: Vec3[] = [];
  for (let i = 0; i <= n; i++) {
    const x = -half + (2 * half * i) / n;
    out.push([x, mouthLine(x) + up * Math.sqrt(Math.max(0, 1 - (x / half) ** 2)), 0.11]);
  }
  for (let i = n - 1; i > 0; i--) {
    const x = -half + (2 * half * i) / n;
    out.push([x, mouthLine(x) - down * Math.sqrt(Math.max(0, 1 - (x / half) ** 2)), 0.11]);
  }
  return out;
};
/**
 * The 51 inner landmarks in iBUG's order: brows (subject's right first), nose, eyes, outer and inner lips. Those of nose and
 * mouth are drawn before the surface, to be moved onto it along z.
 */
export const landmarkPoints: readonly Vec3[] = [
  ...[...leftBrow].reverse().map(mirrorVec),
  ...leftBrow,
  [0, 0.335, 0.14],
  [0, 0.32, 0.14],
  [0, 0.305, 0.14],
  [0, 0.291, 0.14],
  [-0.014, 0.28, 0.14],
  [-0.007, 0.277, 0.14],
  [0, 0.275, 0.14],
  [0.007, 0.277, 0.14],
  [0.014, 0.28, 0.14],
  ...[
    eyePoint(64, 4),
    eyePoint(22, lidRest.upper),
    eyePoint(-22, lidRest.upper),
    eyePoint(-64, 2),
    eyePoint(-22, lidRest.lower),
    eyePoint(22, lidRest.lower),
  ].map(mirrorVec),
  eyePoint(-64, 2),
  eyePoint(-22, lidRest.upper),
  eyePoint(22, lidRest.upper),
  eyePoint(64, 4),
  eyePoint(22, lidRest.lower),
  eyePoint(-22, lidRest.lower),
  ...mouthRing(0.0245, 0.0085, 0.011, 6),
  ...mouthRing(0.019, 0.0012, 0.0012, 4),
];

/** Picked vertices: a point near the surface each. */
export const pickedPoints: Readonly<Record<string, Vec3>> = {
  nose: [0, 0.29, 0.13],
  leye: [eyeCenter[0], eyeCenter[1], eyeCenter[2] + eyeRadius],
  lear: [0.09, 0.313, -0.012],
  LBigToe: [0.1, -1.29, 0.15],
  LSmallToe: [0.135, -1.29, 0.12],
  LHeel: [0.098, -1.29, -0.1],
  lthumb: fingerPoints("thumb")[3],
  lindex: fingerPoints("index")[3],
  lmiddle: fingerPoints("middle")[3],
  lring: fingerPoints("ring")[3],
  lpinky: fingerPoints("pinky")[3],
};

if (jointPositions.length !== jointCount) throw new Error("the mannequin must have every joint");
