/** Rotations and the body model against PyTorch3D's and smplx's numbers. */
import { describe, expect, it } from "vitest";
import { fromData, grad, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { BodyModel, loadBodyModel, rotations as R, type BodyParameters, type VertexIds } from "@make-your-anchor/body";
import { caseFolder, GoldenCase } from "./golden-case.ts";

describe("rotations", () => {
  const g = new GoldenCase("rotations");
  it("conversions", () =>
    noGrad(() => {
      const r = g.input("generic.axis_angle");
      const m = R.axisAngleToMatrix(r);
      g.expectClose("generic.matrix", m);
      g.expectClose("generic.matrix_rodrigues", R.rodrigues(r));
      g.expectClose("generic.quaternion", R.axisAngleToQuaternion(r));
      g.expectClose("generic.rot6d", R.matrixToRotation6d(m));
      g.expectClose("generic.axis_angle_back", R.matrixToAxisAngle(m));
      g.expectClose("generic.quaternion_from_matrix", R.matrixToQuaternion(m));
      g.expectClose("generic.matrix_from_quaternion", R.quaternionToMatrix(R.axisAngleToQuaternion(r)));
      g.expectClose("rot6d_raw.matrix", R.rotation6dToMatrix(g.input("rot6d_raw")));
      g.expectClose("rot6d_raw.axis_angle", R.matrixToAxisAngle(R.rotation6dToMatrix(g.input("rot6d_raw"))));
      g.expectClose("quaternion_raw.matrix", R.quaternionToMatrix(g.input("quaternion_raw")));
      g.expectClose("quaternion_product", R.quaternionMultiply(g.input("quaternion_a"), g.input("quaternion_b")));
    }));
  it("above, near and at a half turn, and tiny", () =>
    noGrad(() => {
      g.expectClose("beyond_pi.matrix", R.axisAngleToMatrix(g.input("beyond_pi.axis_angle")));
      g.expectClose("beyond_pi.axis_angle_back", R.matrixToAxisAngle(R.axisAngleToMatrix(g.input("beyond_pi.axis_angle"))));
      g.expectClose("small.matrix", R.axisAngleToMatrix(g.input("small.axis_angle")));
      g.expectClose("small.matrix_rodrigues", R.rodrigues(g.input("small.axis_angle")));
      g.expectClose("near_pi.matrix", R.axisAngleToMatrix(g.input("near_pi.axis_angle")));
      g.expectClose("half_turn.matrix", R.axisAngleToMatrix(g.input("half_turn.axis_angle")), "half_turn");
      g.expectClose("half_turn.matrix", R.axisAngleToMatrix(R.matrixToAxisAngle(g.input("half_turn.matrix_in"))), "half_turn");
    }));
  it("gradient of Rodrigues' formula, finite at zero", () => {
    const r = g.input("grad.axis_angle").requiresGrad_();
    g.expectClose("grad.rodrigues", grad(R.rodrigues(r).mul(g.input("grad.weight")).sum(), [r])[0]!);
  });
});

const large = caseFolder("smplx_forward");
describe.skipIf(large === undefined)("SMPL-X forward (fixture outside the project: skipped where ../shared/golden is absent)", () => {
  if (large === undefined) return;
  const g = new GoldenCase("smplx_forward");
  const names = {
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
  for (const [variant, v] of Object.entries(g.json.variants as Record<string, any>)) {
    it(`${variant}: ${v.meaning}`, () =>
      scope(() => {
        const data = loadBodyModel(g.path(v.model), g.json.vertex_ids as VertexIds);
        const model = new BodyModel(data, {
          usePca: v.use_pca,
          numPcaComps: v.num_pca_comps,
          flatHandMean: v.flat_hand_mean,
          numBetas: v.num_betas,
          numExpressionCoeffs: v.num_expression_coeffs,
          useFaceContour: v.use_face_contour,
        });
        const parameters = Object.fromEntries(
          Object.entries(names).flatMap(([ours, theirs]) => {
            const t = g.inputs.get(`${variant}.${theirs}`);
            return t ? [[ours, t.requiresGrad_()]] : [];
          }),
        ) as unknown as BodyParameters;
        const out = model.forward(parameters);
        g.expectClose(`${variant}.vertices`, out.vertices.detach(), "vertices");
        g.expectClose(`${variant}.joints`, out.joints.detach(), "joints");
        g.expectClose(`${variant}.full_pose`, out.fullPose.detach(), "full_pose");
        g.expectClose(`${variant}.v_shaped`, out.vShaped.detach().expand([4, ...out.vShaped.shape.slice(1)]), "v_shaped");

        const points = out.joints.indexSelect(1, g.input(`${variant}.joint_map`)).add(fromData(new Float32Array([0.05, 0.1, 12]), [3]));
        const xy = points
          .narrow(2, 0, 2)
          .div(points.narrow(2, 2, 1))
          .mul(5000)
          .add(fromData(new Float32Array([640, 360]), [2]));
        g.expectClose(`${variant}.keypoints_2d`, xy.detach(), "keypoints_2d");
        const loss = xy
          .sub(g.input(`${variant}.target`))
          .square()
          .sum(2)
          .mul(g.input(`${variant}.conf`))
          .sum()
          .mul(1e-4 / 4);
        const wanted = g.output(`${variant}.loss`).item();
        expect(Math.abs(loss.item() - wanted) / wanted).toBeLessThanOrEqual(g.json.tolerance.loss.rel);
        const leaves = Object.entries(names).filter(([ours]) => ours in parameters);
        const gradients = grad(
          loss,
          leaves.map(([ours]) => (parameters as unknown as Record<string, Tensor>)[ours]),
        );
        leaves.forEach(([, theirs], i) => {
          const reference = g.outputs.get(`${variant}.grad.${theirs}`);
          if (!reference) return;
          const limit = g.json.tolerance.grad.rel_to_max * reference.abs().max().item();
          expect(gradients[i]!.sub(reference).abs().max().item(), `gradient of ${theirs}`).toBeLessThanOrEqual(limit);
        });
      }));
  }
});
