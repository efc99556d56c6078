/** A motion's vertices, frame by frame, for a body model. */
import { fromData, noGrad, scope } from "@make-your-anchor/torch";
import { BodyModel, type BodyModelData } from "../model/body-model.ts";
import type { Motion } from "./motion.ts";

/** Whose shape and expression coefficients a model takes. */
export const spaceOf = (data: BodyModelData): Motion["space"] => (data.name === "mannequin" ? "mannequin" : "smplx");

/** Owns a body model; expressions and shapes of another space than the model's are left out. */
export class Poser {
  readonly data: BodyModelData;
  private readonly model: BodyModel;
  private readonly space: Motion["space"];

  constructor(data: BodyModelData, numBetas = 10, numExpressionCoeffs = 100) {
    this.data = data;
    this.space = spaceOf(data);
    this.model = new BodyModel(data, { numBetas, numExpressionCoeffs });
  }

  /** Vertices `[V, 3]` and joints `[127, 3]` of one frame, metres, in the motion's own frame; `betas` replace the motion's. */
  pose(m: Motion, frame: number, betas: Float32Array = m.betas): { vertices: Float32Array; joints: Float32Array } {
    const { numBetas, numExpressionCoeffs } = this.model.options;
    const row = (a: Float32Array, width: number) => fromData(a.slice(frame * width, (frame + 1) * width), [1, width]);
    const fitted = (values: Float32Array, n: number) =>
      fromData(
        Float32Array.from({ length: n }, (_, i) => values[i] ?? 0),
        [1, n],
      );
    const hand = (a: Float32Array, mean: Float32Array) => {
      const values = a.slice(frame * 45, (frame + 1) * 45);
      if (!m.handsAboutMean) for (let i = 0; i < 45; i++) values[i] -= mean[i];
      return fromData(values, [1, 45]);
    };
    const known = m.space === this.space;
    return scope(() =>
      noGrad(() => {
        const { vertices, joints } = this.model.forward({
          betas: fitted(known || betas !== m.betas ? betas : new Float32Array(0), numBetas),
          expression: fitted(
            known ? m.expression.slice(frame * m.expressionWidth, (frame + 1) * m.expressionWidth) : new Float32Array(0),
            numExpressionCoeffs,
          ),
          globalOrient: row(m.globalOrient, 3),
          bodyPose: row(m.bodyPose, 63),
          jawPose: row(m.jawPose, 3),
          leyePose: row(m.leyePose, 3),
          reyePose: row(m.reyePose, 3),
          leftHandPose: hand(m.leftHandPose, this.data.handsMeanL),
          rightHandPose: hand(m.rightHandPose, this.data.handsMeanR),
          transl: row(m.transl, 3),
        });
        return { vertices: vertices.floats(), joints: joints.floats() };
      }),
    );
  }

  dispose(): void {
    this.model.dispose();
  }
  [Symbol.dispose](): void {
    this.model.dispose();
  }
}
