/** Sampling runs: one step as a pure function of what the steps before it left, so that frames of a video can be at different steps. */
import type { Tensor } from "@make-your-anchor/torch";

/** What earlier steps left: tensors of the sample's shape. */
export type SamplerState = readonly Tensor[];

export interface Sampler {
  /** Falling, one for each step. */
  readonly timesteps: readonly number[];
  /** Whether steps add noise. */
  readonly noisy: boolean;
  /**
   * The sample after step `index`, and what the next step needs of it. Nothing passed in is changed or kept.
   * @param output what the model said to `sample` at `timesteps[index]`
   * @param noise  of the sample's shape; needed where `noisy`
   */
  step(index: number, output: Tensor, sample: Tensor, state: SamplerState, noise?: Tensor): { sample: Tensor; state: SamplerState };
}
