/** Motion files: our .npz, TalkSHOW's .npy, SHOW's .npz, AMASS's and BEAT2's .npz. */
import { extname } from "node:path";
import { BodyError } from "../errors.ts";
import { readNpy, readNpz, writeNpz, type NpyArray } from "../io/npy.ts";
import { checkMotion, emptyMotion, motionFields, motionWidths, type Motion, type MotionField } from "./motion.ts";

const snake: Record<MotionField, string> = {
  transl: "transl",
  globalOrient: "global_orient",
  bodyPose: "body_pose",
  jawPose: "jaw_pose",
  leyePose: "leye_pose",
  reyePose: "reye_pose",
  leftHandPose: "left_hand_pose",
  rightHandPose: "right_hand_pose",
};

const floats = (a: NpyArray): Float32Array => (a.data instanceof Float32Array ? a.data : Float32Array.from(a.data));

/** Writes our .npz: the fields under SMPL-X's names, `fps`, the camera and its moves where there are any. Atomic; same motion, same bytes. */
export function saveMotion(path: string, m: Motion): void {
  const out = new Map<string, NpyArray>();
  for (const f of motionFields) out.set(snake[f], { shape: [m.frames, motionWidths[f]], data: m[f] });
  out.set("expression", { shape: [m.frames, m.expressionWidth], data: m.expression });
  out.set("betas", { shape: [m.betas.length], data: m.betas });
  out.set("fps", { shape: [1], data: new Float64Array([m.fps]) });
  out.set("hands_about_mean", { shape: [1], data: new Uint8Array([m.handsAboutMean ? 1 : 0]) });
  out.set("space_is_smplx", { shape: [1], data: new Uint8Array([m.space === "smplx" ? 1 : 0]) });
  if (m.camera) {
    const { width, height, focal, cx, cy, transl } = m.camera;
    out.set("camera", { shape: [8], data: new Float64Array([width, height, focal, cx, cy, ...transl]) });
  }
  if (m.views) out.set("views", { shape: [m.frames, 6], data: m.views });
  writeNpz(path, out);
}

/** Reads any of the known motion files; which one it is shows in its arrays. */
export function loadMotion(path: string): Motion {
  const extension = extname(path).toLowerCase();
  if (extension === ".npy") return checkMotion(talkshow(readNpy(path), path), path);
  if (extension !== ".npz")
    throw new BodyError("MOTION", `${path}: not a motion file: expected .npz (ours, SHOW, AMASS, BEAT2) or .npy (TalkSHOW, 265 columns)`);
  const pickled = /^(part2num|joint2num|gender|surface_model_type|speaker_name)$|^losses_to_log/;
  const file = readNpz(path, (name) => !pickled.test(name));
  if (file.has("poses")) return checkMotion(amass(file, path), path);
  if (file.has("body_pose_axis")) return checkMotion(show(file, path), path);
  if (file.has("body_pose")) return checkMotion(own(file, path), path);
  throw new BodyError(
    "MOTION",
    `${path}: not a motion file we know: it holds ${[...file.keys()].slice(0, 8).join(", ")}; expected body_pose (ours), body_pose_axis (SHOW) or poses (AMASS, BEAT2)`,
  );
}

function own(file: Map<string, NpyArray>, path: string): Motion {
  const body = need(file, "body_pose", path);
  const frames = body.shape[0];
  const expression = file.get("expression");
  const m = emptyMotion(frames, file.has("fps") ? Number(file.get("fps")!.data[0]) : 30, expression?.shape[1] ?? 0);
  for (const f of motionFields) {
    const a = file.get(snake[f]);
    if (!a) continue;
    expectWidth(a, motionWidths[f], frames, `${path}: ${snake[f]}`);
    m[f] = floats(a);
  }
  if (expression) m.expression = floats(expression);
  if (file.has("betas")) m.betas = floats(file.get("betas")!);
  m.handsAboutMean = file.get("hands_about_mean")?.data[0] !== 0;
  m.space = file.get("space_is_smplx")?.data[0] === 1 ? "smplx" : "mannequin";
  const views = file.get("views");
  if (views) {
    expectWidth(views, 6, frames, `${path}: views`);
    m.views = floats(views);
  }
  const c = file.get("camera")?.data;
  if (c?.length === 8) m.camera = { width: c[0], height: c[1], focal: c[2], cx: c[3], cy: c[4], transl: [c[5], c[6], c[7]] };
  return m;
}

/** `[F, 265]` at 30 frames a second, hands in full angles about the mean hand. */
function talkshow(a: NpyArray, path: string): Motion {
  if (a.shape.length !== 2 || a.shape[1] !== 265)
    throw new BodyError("MOTION", `${path}: expected an array [frames, 265] (TalkSHOW), got [${a.shape.join(", ")}]`);
  const frames = a.shape[0];
  const data = floats(a);
  const m = emptyMotion(frames, 30, 100);
  m.space = "smplx";
  const columns: [Float32Array, number, number][] = [
    [m.jawPose, 0, 3],
    [m.leyePose, 3, 3],
    [m.reyePose, 6, 3],
    [m.globalOrient, 9, 3],
    [m.bodyPose, 12, 63],
    [m.leftHandPose, 75, 45],
    [m.rightHandPose, 120, 45],
    [m.expression, 165, 100],
  ];
  for (const [to, from, width] of columns)
    for (let f = 0; f < frames; f++) to.set(data.subarray(f * 265 + from, f * 265 + from + width), f * width);
  return m;
}

/** The columns of TalkSHOW's 265, for models that speak it. The inverse of reading, without transl and camera. */
export function toTalkshow(m: Motion): NpyArray {
  const data = new Float32Array(m.frames * 265);
  const put = (from: Float32Array, at: number, width: number, take = width) => {
    for (let f = 0; f < m.frames; f++) data.set(from.subarray(f * width, f * width + take), f * 265 + at);
  };
  put(m.jawPose, 0, 3);
  put(m.leyePose, 3, 3);
  put(m.reyePose, 6, 3);
  put(m.globalOrient, 9, 3);
  put(m.bodyPose, 12, 63);
  put(m.leftHandPose, 75, 45);
  put(m.rightHandPose, 120, 45);
  if (m.space === "smplx") put(m.expression, 165, m.expressionWidth, Math.min(100, m.expressionWidth));
  return { shape: [m.frames, 265], data };
}

/** SHOW's fit: hands by 12 principal components of SMPL-X's own, which only that model can turn into angles: they rest otherwise. */
function show(file: Map<string, NpyArray>, path: string): Motion {
  const body = need(file, "body_pose_axis", path);
  const frames = body.shape[0];
  const expression = need(file, "expression", path);
  const m = emptyMotion(frames, 30, expression.shape[1]);
  m.space = "smplx";
  const fields: [MotionField, string][] = [
    ["bodyPose", "body_pose_axis"],
    ["globalOrient", "global_orient"],
    ["transl", "transl"],
    ["jawPose", "jaw_pose"],
    ["leyePose", "leye_pose"],
    ["reyePose", "reye_pose"],
  ];
  for (const [field, name] of fields) {
    const a = need(file, name, path);
    if (a.data.length !== frames * motionWidths[field])
      throw new BodyError("MOTION", `${path}: ${name}: expected ${frames} frames of ${motionWidths[field]}, got [${a.shape.join(", ")}]`);
    m[field] = floats(a);
  }
  m.expression = floats(expression);
  if (file.has("betas")) m.betas = floats(file.get("betas")!);
  const camera = file.get("camera_transl")?.data;
  const [width, height] = ["width", "height"].map((k) => Number(file.get(k)?.data[0] ?? 0));
  // x and y are stored with their signs turned.
  if (camera && width && height)
    m.camera = {
      width,
      height,
      focal: Number(file.get("focal_length")?.data[0] ?? 5000),
      cx: width / 2,
      cy: height / 2,
      transl: [-camera[0], -camera[1], camera[2]],
    };
  return m;
}

/** AMASS (z up) and BEAT2 (y up): 165 angles, hands in full. */
function amass(file: Map<string, NpyArray>, path: string): Motion {
  const poses = need(file, "poses", path);
  if (poses.shape.length !== 2 || poses.shape[1] !== 165)
    throw new BodyError(
      "MOTION",
      `${path}: poses: expected [frames, 165] (SMPL-X), got [${poses.shape.join(", ")}]; SMPL+H files with 156 columns have no face and are not supported`,
    );
  const frames = poses.shape[0];
  const data = floats(poses);
  const expression = file.get("expressions") ?? file.get("expression");
  const rate = file.get("mocap_frame_rate") ?? file.get("mocap_framerate") ?? file.get("fps");
  const m = emptyMotion(frames, rate ? Number(rate.data[0]) : 30, expression?.shape[1] ?? 0);
  m.space = "smplx";
  m.handsAboutMean = false;
  const columns: [MotionField, number][] = [
    ["globalOrient", 0],
    ["bodyPose", 3],
    ["jawPose", 66],
    ["leyePose", 69],
    ["reyePose", 72],
    ["leftHandPose", 75],
    ["rightHandPose", 120],
  ];
  for (const [field, from] of columns)
    for (let f = 0; f < frames; f++)
      m[field].set(data.subarray(f * 165 + from, f * 165 + from + motionWidths[field]), f * motionWidths[field]);
  if (expression) m.expression = floats(expression);
  if (file.has("betas")) m.betas = floats(file.get("betas")!);
  const trans = file.get("trans");
  // Which way is up: the mean body's own up axis under its orientation.
  const up = [0, 0, 0];
  for (let f = 0; f < frames; f++) rotate(m.globalOrient.subarray(3 * f, 3 * f + 3), [0, 1, 0]).forEach((x, k) => (up[k] += x));
  const zUp = up[2] > up[1];
  for (let f = 0; f < frames; f++) {
    // World to camera: y up → y down by half a turn about x; z up → first a quarter turn about x.
    const turn = zUp ? Math.PI / 2 : Math.PI;
    m.globalOrient.set(composeX(turn, m.globalOrient.subarray(3 * f, 3 * f + 3)), 3 * f);
    if (trans) m.transl.set(rotate([turn, 0, 0], Array.from(trans.data.subarray(3 * f, 3 * f + 3))), 3 * f);
  }
  return m;
}

function rotate(r: ArrayLike<number>, v: readonly number[]): number[] {
  const angle = Math.hypot(r[0], r[1], r[2]);
  if (angle < 1e-9) return [...v];
  const [x, y, z] = [r[0] / angle, r[1] / angle, r[2] / angle];
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const dot = (x * v[0] + y * v[1] + z * v[2]) * (1 - c);
  return [
    v[0] * c + (y * v[2] - z * v[1]) * s + x * dot,
    v[1] * c + (z * v[0] - x * v[2]) * s + y * dot,
    v[2] * c + (x * v[1] - y * v[0]) * s + z * dot,
  ];
}

/** Rotation vector of a turn about x after `r`. */
function composeX(turn: number, r: ArrayLike<number>): number[] {
  const half = Math.hypot(r[0], r[1], r[2]) / 2;
  const s = half < 1e-9 ? 0.5 : Math.sin(half) / (2 * half);
  const [aw, ax] = [Math.cos(turn / 2), Math.sin(turn / 2)];
  const [bw, bx, by, bz] = [Math.cos(half), r[0] * s, r[1] * s, r[2] * s];
  let q = [aw * bw - ax * bx, aw * bx + ax * bw, aw * by - ax * bz, aw * bz + ax * by];
  if (q[0] < 0) q = q.map((x) => -x);
  const length = Math.hypot(q[1], q[2], q[3]);
  const angle = 2 * Math.atan2(length, q[0]);
  return length < 1e-9 ? [0, 0, 0] : [1, 2, 3].map((k) => (q[k] / length) * angle);
}

function need(file: Map<string, NpyArray>, name: string, path: string): NpyArray {
  const a = file.get(name);
  if (!a) throw new BodyError("MOTION", `${path}: no array "${name}" in the motion`);
  return a;
}

function expectWidth(a: NpyArray, width: number, frames: number, what: string): void {
  if (a.shape.length !== 2 || a.shape[0] !== frames || a.shape[1] !== width)
    throw new BodyError("MOTION", `${what}: expected [${frames}, ${width}], got [${a.shape.join(", ")}]`);
}
