/** The body model and its rotations. */
import { fromData, grad, noGrad, type Tensor } from "@make-your-anchor/torch";
import { BodyModel, loadBodyModel, rotations as R, type BodyParameters, type VertexIds } from "@make-your-anchor/body";
import type { GoldenCase } from "../case.ts";

export function rotations(g: GoldenCase): void {
  noGrad(() => {
    const r = g.input("generic.axis_angle");
    const m = R.axisAngleToMatrix(r);
    g.check("generic.matrix", m);
    g.check("generic.matrix_rodrigues", R.rodrigues(r));
    g.check("generic.quaternion", R.axisAngleToQuaternion(r));
    g.check("generic.rot6d", R.matrixToRotation6d(m));
    g.check("generic.axis_angle_back", R.matrixToAxisAngle(m));
    // Of the reference's own matrix: roots near zero magnify the last digit, in which one libtorch's sine differs from another's.
    g.check("generic.quaternion_from_matrix", R.matrixToQuaternion(g.output("generic.matrix")));
    g.check("generic.matrix_from_quaternion", R.quaternionToMatrix(R.axisAngleToQuaternion(r)));
    g.check("rot6d_raw.matrix", R.rotation6dToMatrix(g.input("rot6d_raw")));
    g.check("rot6d_raw.axis_angle", R.matrixToAxisAngle(R.rotation6dToMatrix(g.input("rot6d_raw"))));
    g.check("quaternion_raw.matrix", R.quaternionToMatrix(g.input("quaternion_raw")));
    g.check("quaternion_product", R.quaternionMultiply(g.input("quaternion_a"), g.input("quaternion_b")));
    // Above, near and at a half turn, and tiny.
    g.check("beyond_pi.matrix", R.axisAngleToMatrix(g.input("beyond_pi.axis_angle")));
    g.check("beyond_pi.axis_angle_back", R.matrixToAxisAngle(R.axisAngleToMatrix(g.input("beyond_pi.axis_angle"))));
    g.check("small.matrix", R.axisAngleToMatrix(g.input("small.axis_angle")));
    g.check("small.matrix_rodrigues", R.rodrigues(g.input("small.axis_angle")));
    g.check("near_pi.matrix", R.axisAngleToMatrix(g.input("near_pi.axis_angle")));
    g.check("half_turn.matrix", R.axisAngleToMatrix(g.input("half_turn.axis_angle")), "half_turn");
    g.check("half_turn.matrix", R.axisAngleToMatrix(R.matrixToAxisAngle(g.input("half_turn.matrix_in"))), "half_turn");
  });
  // Finite at zero.
  const r = g.input("grad.axis_angle").requiresGrad_();
  g.check("grad.rodrigues", grad(R.rodrigues(r).mul(g.input("grad.weight")).sum(), [r])[0]!);
}

const parameterNames = {
  betas: "betas",
  expression: "expression",
  globalOrient: "global_orient",
  bodyPose: "body_pose",
  jawPose: "jaw_pose",
  leyePose: "leye_pose",
  reyePose: "reye_pose",
  leftHandPose: "left_hand_pose",
  rightHandPose: "right_hand_pose",
  transl: "transl",
} as const;

interface Variant {
  model: string;
  use_pca: boolean;
  num_pca_comps: number;
  flat_hand_mean: boolean;
  num_betas: number;
  num_expression_coeffs: number;
  use_face_contour: boolean;
}

export function smplxForward(g: GoldenCase): void {
  const batch = g.json.batch as number;
  const { device } = g.arithmetic;
  for (const [variant, v] of Object.entries(g.json.variants as Record<string, Variant>)) {
    const data = loadBodyModel(g.path(v.model), g.json.vertex_ids as VertexIds);
    using model = new BodyModel(data, {
      usePca: v.use_pca,
      numPcaComps: v.num_pca_comps,
      flatHandMean: v.flat_hand_mean,
      numBetas: v.num_betas,
      numExpressionCoeffs: v.num_expression_coeffs,
      useFaceContour: v.use_face_contour,
    });
    const leaves = Object.entries(parameterNames).filter(([, theirs]) => g.has(`${variant}.${theirs}`));
    const parameters = Object.fromEntries(
      leaves.map(([ours, theirs]) => [ours, g.input(`${variant}.${theirs}`).requiresGrad_()]),
    ) as unknown as BodyParameters;
    const out = model.forward(parameters);
    g.check(`${variant}.vertices`, out.vertices, "vertices");
    g.check(`${variant}.joints`, out.joints, "joints");
    g.check(`${variant}.full_pose`, out.fullPose, "full_pose");
    g.check(`${variant}.v_shaped`, out.vShaped.expand([batch, ...out.vShaped.shape.slice(1)]), "v_shaped");

    // The objective in the case's own words: a pinhole camera and weighed squared distances.
    const floats = (values: number[]) => fromData(Float32Array.from(values), [values.length], { device });
    const points = out.joints.indexSelect(1, g.input(`${variant}.joint_map`)).add(floats([0.05, 0.1, 12]));
    const xy = points
      .narrow(2, 0, 2)
      .div(points.narrow(2, 2, 1))
      .mul(5000)
      .add(floats([640, 360]));
    g.check(`${variant}.keypoints_2d`, xy, "keypoints_2d");
    const loss = xy
      .sub(g.input(`${variant}.target`))
      .square()
      .sum(2)
      .mul(g.input(`${variant}.conf`))
      .sum()
      .mul(1e-4 / batch);
    g.check(`${variant}.loss`, loss.reshape(g.output(`${variant}.loss`).shape), "loss");
    const tensors = leaves.map(([ours]) => (parameters as unknown as Record<string, Tensor>)[ours]);
    grad(loss, tensors).forEach((gradient, i) => {
      const name = `${variant}.grad.${leaves[i][1]}`;
      if (g.hasOutput(name)) g.check(name, gradient!, "grad");
    });
  }
}
