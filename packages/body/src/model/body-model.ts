/** The SMPL-X body model (Pavlakos et al. 2019): shape, expression and pose to vertices and joints, with gradients. */
import { cat, embedding, eye, fromData, keep, noGrad, scope, stack, ShapeError, type Tensor } from "@make-your-anchor/torch";
import { BodyError } from "../errors.ts";
import { readNpz, type NpyArray } from "../io/npy.ts";
import { rodrigues } from "./rotations.ts";
import { jointCount, pickedNames, smplxVertexIds, type VertexIds } from "./skeleton.ts";

/** A model as its .npz holds it, row-major float32. V vertices, F faces, J = 55 joints. */
export interface BodyModelData {
  name: string;
  /** `[V, 3]` metres: x to the subject's left, y up, z forward. */
  vTemplate: Float32Array;
  /** `[V, 3, shape + expression coefficients]`. */
  shapedirs: Float32Array;
  shapeCount: number;
  expressionCount: number;
  /** `[V, 3, (J − 1) · 9]`; null: no pose correctives. */
  posedirs: Float32Array | null;
  /** `[J, V]`. */
  jRegressor: Float32Array;
  parents: readonly number[];
  /** `[V, J]`, rows sum to 1. */
  weights: Float32Array;
  /** `[F, 3]`. */
  faces: Uint32Array;
  /** Rows of principal components of hand poses `[45, 45]`, and their mean `[45]`. */
  handsComponentsL: Float32Array;
  handsComponentsR: Float32Array;
  handsMeanL: Float32Array;
  handsMeanR: Float32Array;
  /** 51 face landmarks: a face and barycentric weights each. */
  lmkFaces: Uint32Array;
  lmkBary: Float32Array;
  /** Landmarks of the face's outline, by the head's turn: `[79, 17]` and `[79, 17, 3]`; null where the model has none. */
  dynamicLmkFaces: Uint32Array | null;
  dynamicLmkBary: Float32Array | null;
  vertexIds: VertexIds;
}

export interface BodyModelOptions {
  /** Hands by principal components instead of 45 angles. Default false. */
  usePca?: boolean;
  numPcaComps?: number;
  /** Without adding the mean hand pose. Default false: it is added. */
  flatHandMean?: boolean;
  numBetas?: number;
  numExpressionCoeffs?: number;
  /** Adds the 17 outline landmarks to the joints. */
  useFaceContour?: boolean;
}

export interface BodyParameters {
  /** `[1 or B, numBetas]`. */
  betas: Tensor;
  /** `[B, numExpressionCoeffs]`. */
  expression: Tensor;
  /** `[B, 3]` rad; so are the other rotations. */
  globalOrient: Tensor;
  /** `[B, 63]`. */
  bodyPose: Tensor;
  jawPose: Tensor;
  leyePose: Tensor;
  reyePose: Tensor;
  /** `[B, 45]`, or `[B, numPcaComps]` with `usePca`. */
  leftHandPose: Tensor;
  rightHandPose: Tensor;
  /** `[B, 3]` metres. */
  transl?: Tensor;
}

export interface BodyOutput {
  /** `[B, V, 3]`, or the chosen subset of vertices. */
  vertices: Tensor;
  /** `[B, 127 or 144, 3]`: 55 joints, 21 picked vertices, 51 landmarks, 17 of the outline. */
  joints: Tensor;
  /** `[B, 55, 3]` after components and mean. */
  fullPose: Tensor;
  /** `[B, V, 3]`: template and shape, no expression. */
  vShaped: Tensor;
}

/** Reads an SMPL-X .npz. The published files may be used for non-commercial research only: the user brings them. */
export function loadBodyModel(path: string, vertexIds: VertexIds = smplxVertexIds): BodyModelData {
  const wanted =
    "v_template shapedirs posedirs J_regressor kintree_table weights f hands_componentsl hands_componentsr hands_meanl hands_meanr lmk_faces_idx lmk_bary_coords dynamic_lmk_faces_idx dynamic_lmk_bary_coords".split(
      " ",
    );
  const file = readNpz(path, (name) => wanted.includes(name));
  const get = (name: string): NpyArray => {
    const a = file.get(name);
    if (!a)
      throw new BodyError(
        "BODY_MODEL",
        `${path}: no array "${name}"; an SMPL-X model file (like SMPLX_NEUTRAL.npz) is expected, it holds ${wanted.join(", ")}`,
      );
    return a;
  };
  const floats = (name: string) => Float32Array.from(get(name).data);
  const wholes = (name: string) => Uint32Array.from(get(name).data);
  const v = get("v_template").shape[0];
  const expect = (name: string, shape: readonly (number | string)[]) => {
    const got = get(name).shape;
    if (got.length !== shape.length || shape.some((s, i) => typeof s === "number" && s !== got[i]))
      throw new ShapeError(`${path}: ${name}`, shape, got);
  };
  expect("v_template", ["V", 3]);
  expect("shapedirs", [v, 3, "coefficients"]);
  expect("posedirs", [v, 3, (jointCount - 1) * 9]);
  expect("J_regressor", [jointCount, v]);
  expect("weights", [v, jointCount]);
  expect("kintree_table", [2, jointCount]);
  expect("f", ["F", 3]);
  const coefficients = get("shapedirs").shape[2];
  // Files with 400 coefficients hold 300 of shape and 100 of expression; older ones 10 and 10.
  const shapeCount = coefficients < 400 ? 10 : 300;
  const faces = wholes("f");
  if (faces.some((i) => i >= v)) throw new BodyError("BODY_MODEL", `${path}: f: a face names a vertex that is not there`);
  const data: BodyModelData = {
    name: path,
    vTemplate: floats("v_template"),
    shapedirs: floats("shapedirs"),
    shapeCount,
    expressionCount: coefficients - shapeCount,
    posedirs: floats("posedirs"),
    jRegressor: floats("J_regressor"),
    parents: Array.from(get("kintree_table").data.slice(0, jointCount), (p, i) => (i === 0 ? -1 : p)),
    weights: floats("weights"),
    faces,
    handsComponentsL: floats("hands_componentsl"),
    handsComponentsR: floats("hands_componentsr"),
    handsMeanL: floats("hands_meanl"),
    handsMeanR: floats("hands_meanr"),
    lmkFaces: wholes("lmk_faces_idx"),
    lmkBary: floats("lmk_bary_coords"),
    dynamicLmkFaces: file.has("dynamic_lmk_faces_idx") ? wholes("dynamic_lmk_faces_idx") : null,
    dynamicLmkBary: file.has("dynamic_lmk_bary_coords") ? floats("dynamic_lmk_bary_coords") : null,
    vertexIds,
  };
  if (data.parents.some((p, i) => i > 0 && !(p >= 0 && p < i)))
    throw new BodyError("BODY_MODEL", `${path}: kintree_table: a joint's parent must come before it`);
  return data;
}

/** Forward pass of a body model; owns its constant tensors. */
export class BodyModel {
  readonly data: BodyModelData;
  readonly options: Required<BodyModelOptions>;
  private readonly owned: Tensor[] = [];
  private readonly template: Tensor; // [V, 3]
  private readonly directions: Tensor; // [S + E, V·3]
  private readonly jointTemplate: Tensor; // [J, 3]
  private readonly jointDirections: Tensor; // [S + E, J·3]
  private readonly poseDirections: Tensor | null; // [486, V·3]
  private readonly weights: Tensor; // [V, J]
  private readonly handMean: Tensor; // [165]
  private readonly components: readonly [Tensor, Tensor]; // [n, 45]
  private readonly points: { index: Tensor; weight: Tensor }; // picked vertices and landmarks [21 + 51, 3]
  private readonly contour: { index: Tensor; weight: Tensor } | null; // [79, 17, 3]
  private readonly levels: { joints: number[]; parents: Tensor }[];
  private readonly order: Tensor;

  /** `vertices` keeps only those: a fit that looks at landmarks alone needs a hundredth of the work. They must hold what landmarks refer to. */
  constructor(data: BodyModelData, options: BodyModelOptions = {}, vertices?: readonly number[]) {
    this.data = data;
    this.options = {
      usePca: options.usePca ?? false,
      numPcaComps: options.numPcaComps ?? 12,
      flatHandMean: options.flatHandMean ?? false,
      numBetas: Math.min(options.numBetas ?? data.shapeCount, data.shapeCount),
      numExpressionCoeffs: Math.min(options.numExpressionCoeffs ?? data.expressionCount, data.expressionCount),
      useFaceContour: (options.useFaceContour ?? false) && data.dynamicLmkFaces !== null,
    };
    const { numBetas, numExpressionCoeffs } = this.options;
    const all = data.vTemplate.length / 3;
    const subset = vertices ?? null;
    const count = subset ? subset.length : all;
    const position = subset ? new Map(subset.map((v, i) => [v, i])) : null;
    const at = (v: number): number => {
      const i = position ? position.get(v) : v;
      if (i === undefined) throw new BodyError("SUBSET", `vertex ${v} belongs to a landmark and must be in the subset`);
      return i;
    };
    const own = <T extends Tensor>(t: T): T => {
      this.owned.push(t);
      return keep(t);
    };
    const pick = (i: number) => (subset ? subset[i] : i);
    const tensorOf = (array: Float32Array, shape: readonly number[]) => own(fromData(array, shape));

    const template = new Float32Array(count * 3);
    const weights = new Float32Array(count * jointCount);
    const coefficients = data.shapeCount + data.expressionCount;
    const used = [...Array(numBetas).keys(), ...Array.from({ length: numExpressionCoeffs }, (_, i) => data.shapeCount + i)];
    const directions = new Float32Array(used.length * count * 3);
    for (let i = 0; i < count; i++) {
      const v = pick(i);
      weights.set(data.weights.subarray(v * jointCount, (v + 1) * jointCount), i * jointCount);
      for (let c = 0; c < 3; c++) {
        template[3 * i + c] = data.vTemplate[3 * v + c];
        used.forEach((u, k) => {
          directions[k * count * 3 + 3 * i + c] = data.shapedirs[(3 * v + c) * coefficients + u];
        });
      }
    }
    this.template = tensorOf(template, [count, 3]);
    this.directions = tensorOf(directions, [used.length, count * 3]);
    this.weights = tensorOf(weights, [count, jointCount]);
    this.poseDirections = null;
    if (data.posedirs) {
      const features = (jointCount - 1) * 9;
      const rows = new Float32Array(features * count * 3);
      for (let i = 0; i < count; i++) {
        for (let c = 0; c < 3; c++)
          for (let k = 0; k < features; k++) rows[k * count * 3 + 3 * i + c] = data.posedirs[(3 * pick(i) + c) * features + k];
      }
      this.poseDirections = tensorOf(rows, [features, count * 3]);
    }
    // The regressor acts on the whole mesh; on template and directions once, it need not be applied again.
    const joints = scope(() =>
      noGrad(() => {
        const regressor = fromData(data.jRegressor, [jointCount, all]);
        const whole = new Float32Array(used.length * all * 3);
        for (let v = 0; v < all * 3; v++) used.forEach((u, k) => (whole[k * all * 3 + v] = data.shapedirs[v * coefficients + u]));
        return {
          template: regressor.matmul(fromData(data.vTemplate, [all, 3])),
          directions: regressor.matmul(fromData(whole, [used.length, all, 3])).reshape([used.length, jointCount * 3]),
        };
      }),
    );
    this.jointTemplate = own(joints.template);
    this.jointDirections = own(joints.directions);

    const mean = new Float32Array(jointCount * 3);
    if (!this.options.flatHandMean) {
      mean.set(data.handsMeanL, 75);
      mean.set(data.handsMeanR, 120);
    }
    this.handMean = tensorOf(mean, [jointCount * 3]);
    const n = this.options.numPcaComps;
    this.components = [
      tensorOf(data.handsComponentsL.slice(0, n * 45), [n, 45]),
      tensorOf(data.handsComponentsR.slice(0, n * 45), [n, 45]),
    ];

    const index: number[] = [];
    const weight: number[] = [];
    for (const name of pickedNames) {
      const v = at(data.vertexIds[name]);
      index.push(v, v, v);
      weight.push(1, 0, 0);
    }
    const corner = (face: number, k: number) => at(data.faces[3 * face + k]);
    data.lmkFaces.forEach((face, i) => {
      for (let k = 0; k < 3; k++) {
        index.push(corner(face, k));
        weight.push(data.lmkBary[3 * i + k]);
      }
    });
    const wholeTensor = (values: number[], shape: readonly number[]) => own(fromData(BigInt64Array.from(values, BigInt), shape));
    this.points = { index: wholeTensor(index, [index.length / 3, 3]), weight: tensorOf(Float32Array.from(weight), [weight.length / 3, 3]) };
    this.contour = null;
    if (this.options.useFaceContour) {
      const faces = Array.from(data.dynamicLmkFaces!).flatMap((face) => [0, 1, 2].map((k) => corner(face, k)));
      this.contour = { index: wholeTensor(faces, [79, 17, 3]), weight: tensorOf(data.dynamicLmkBary!, [79, 17, 3]) };
    }

    // Joints of the same depth move together: ten steps instead of 55.
    const depth = data.parents.map(() => 0);
    data.parents.forEach((p, j) => (depth[j] = p < 0 ? 0 : depth[p] + 1));
    const placed: number[] = [];
    this.levels = [];
    for (let d = 0; d <= Math.max(...depth); d++) {
      const js = depth.flatMap((x, j) => (x === d ? [j] : []));
      const before = this.levels.at(-1)?.joints ?? [];
      this.levels.push({
        joints: js,
        parents: wholeTensor(
          js.map((j) => Math.max(0, before.indexOf(data.parents[j]))),
          [js.length],
        ),
      });
      placed.push(...js);
    }
    this.order = wholeTensor(
      data.parents.map((_, j) => placed.indexOf(j)),
      [jointCount],
    );
  }

  /** Vertices the landmarks and picked points refer to: what a subset must hold. */
  static landmarkVertices(data: BodyModelData): number[] {
    const out = new Set<number>(pickedNames.map((n) => data.vertexIds[n]));
    for (const face of data.lmkFaces) for (let k = 0; k < 3; k++) out.add(data.faces[3 * face + k]);
    return [...out].sort((a, b) => a - b);
  }

  /** Source of each step: smplx `SMPLX.forward` and `lbs`. */
  forward(p: BodyParameters): BodyOutput {
    const b = p.bodyPose.size(0);
    const { usePca, numBetas, numExpressionCoeffs } = this.options;
    const check = (name: string, t: Tensor, width: number) => {
      if (t.dim !== 2 || t.size(1) !== width || (t.size(0) !== b && !(name === "betas" && t.size(0) === 1)))
        throw new ShapeError(name, [b, width], t.shape);
    };
    const hand = usePca ? this.options.numPcaComps : 45;
    check("betas", p.betas, numBetas);
    check("expression", p.expression, numExpressionCoeffs);
    check("global_orient", p.globalOrient, 3);
    check("body_pose", p.bodyPose, 63);
    for (const [name, t] of [
      ["jaw_pose", p.jawPose],
      ["leye_pose", p.leyePose],
      ["reye_pose", p.reyePose],
    ] as const)
      check(name, t, 3);
    check("left_hand_pose", p.leftHandPose, hand);
    check("right_hand_pose", p.rightHandPose, hand);

    const left = usePca ? p.leftHandPose.matmul(this.components[0]) : p.leftHandPose;
    const right = usePca ? p.rightHandPose.matmul(this.components[1]) : p.rightHandPose;
    const pose = cat([p.globalOrient, p.bodyPose, p.jawPose, p.leyePose, p.reyePose, left, right], 1).add(this.handMean);
    const fullPose = pose.reshape([b, jointCount, 3]);

    const betas = p.betas.size(0) === b ? p.betas : p.betas.expand([b, numBetas]);
    const coefficients = cat([betas, p.expression], 1);
    const count = this.template.size(0);
    const vShaped = betas
      .matmul(this.directions.narrow(0, 0, numBetas))
      .reshape([b, count, 3])
      .add(this.template);
    let rest = coefficients.matmul(this.directions).reshape([b, count, 3]).add(this.template);
    const joints = coefficients.matmul(this.jointDirections).reshape([b, jointCount, 3]).add(this.jointTemplate);

    const rotations = rodrigues(fullPose); // [B, J, 3, 3]
    if (this.poseDirections) {
      const turned = rotations.narrow(1, 1, jointCount - 1);
      const feature = turned.sub(eye(3)).reshape([b, (jointCount - 1) * 9]);
      rest = rest.add(feature.matmul(this.poseDirections).reshape([b, count, 3]));
    }

    // Each joint's turn and place in the world, a level of the tree at a time.
    const worldRotations: Tensor[] = [];
    const worldPositions: Tensor[] = [];
    this.levels.forEach((level, d) => {
      const pickJoints = (t: Tensor) =>
        level.joints.length === 1
          ? t.narrow(1, level.joints[0], 1)
          : stack(
              level.joints.map((j) => t.select(1, j)),
              1,
            );
      const own = pickJoints(rotations);
      const at = pickJoints(joints);
      if (d === 0) {
        worldRotations.push(own);
        worldPositions.push(at);
        return;
      }
      const parentRest = stack(
        level.joints.map((j) => joints.select(1, this.data.parents[j])),
        1,
      );
      const parentRotation = worldRotations[d - 1].indexSelect(1, level.parents);
      const parentPosition = worldPositions[d - 1].indexSelect(1, level.parents);
      worldRotations.push(parentRotation.matmul(own));
      worldPositions.push(parentRotation.matmul(at.sub(parentRest).unsqueeze(-1)).squeeze(-1).add(parentPosition));
    });
    const world = cat(worldRotations, 1).indexSelect(1, this.order); // [B, J, 3, 3]
    const posed = cat(worldPositions, 1).indexSelect(1, this.order); // [B, J, 3]

    // Skinning: blend each joint's motion from rest, x ↦ R x + (posed − R rest).
    const shift = posed.sub(world.matmul(joints.unsqueeze(-1)).squeeze(-1));
    const motion = cat([world, shift.unsqueeze(-1)], -1).reshape([b, jointCount, 12]);
    const blended = this.weights.matmul(motion).reshape([b, count, 3, 4]);
    let vertices = blended.narrow(3, 0, 3).matmul(rest.unsqueeze(-1)).squeeze(-1).add(blended.select(3, 3));

    const onSurface = (index: Tensor, weight: Tensor) => {
      const n = index.numel / 3;
      return vertices
        .indexSelect(1, index.reshape([-1]))
        .reshape([b, n, 3, 3])
        .mul(weight.reshape([1, n, 3, 1]))
        .sum(2);
    };
    const parts = [posed, onSurface(this.points.index, this.points.weight)];
    if (this.contour) parts.push(this.outline(vertices, rotations, this.contour));
    let all = cat(parts, 1);
    if (p.transl) {
      vertices = vertices.add(p.transl.unsqueeze(1));
      all = all.add(p.transl.unsqueeze(1));
    }
    return { vertices, joints: all, fullPose, vShaped };
  }

  /** The 17 points of the face's outline, looked up by the head's turn about the vertical, `[B, 17, 3]`. Source: smplx `find_dynamic_lmk_idx_and_bcoords`. */
  private outline(vertices: Tensor, rotations: Tensor, contour: { index: Tensor; weight: Tensor }): Tensor {
    const b = vertices.size(0);
    const { index, weight } = noGrad(() => {
      let r = rotations.select(1, 12);
      for (const joint of [9, 6, 3, 0]) r = rotations.select(1, joint).matmul(r);
      const e = (i: number, j: number) => r.select(1, i).select(1, j).floats();
      const [r00, r10, r20] = [e(0, 0), e(1, 0), e(2, 0)];
      const row = Array.from({ length: b }, (_, i) => {
        const degrees = Math.round(Math.min(39, (-Math.atan2(-r20[i], Math.hypot(r00[i], r10[i])) * 180) / Math.PI));
        return BigInt(degrees >= 0 ? degrees : degrees < -39 ? 78 : 39 - degrees);
      });
      const rows = fromData(BigInt64Array.from(row), [b]);
      return { index: contour.index.indexSelect(0, rows), weight: contour.weight.indexSelect(0, rows) };
    });
    // One flat table of all bodies' vertices, rows shifted by body.
    const count = vertices.size(1);
    const shift = fromData(
      BigInt64Array.from({ length: b }, (_, i) => BigInt(i * count)),
      [b, 1, 1],
    );
    const corners = embedding(vertices.reshape([b * count, 3]), index.add(shift)); // [B, 17, 3, 3]
    return corners.mul(weight.unsqueeze(-1)).sum(2);
  }

  dispose(): void {
    for (const t of this.owned) t.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
