/** UNet and ControlNet, or an adapter of them, trained on samples of one kind: what body, head and stage 1 at full size share. */
import type { Tensor } from "@make-your-anchor/torch";
import { denoisingLoss, type BodyBatch, type DenoisingModels } from "@make-your-anchor/diffusion";
import type { Compute } from "../compute.ts";
import type { WorkOptions } from "../progress.ts";
import type { PersonAdapter } from "./adapter.ts";
import { denoisingGradients, type DenoisingTask } from "./denoising.ts";
import { trainLoop, type LoopResult } from "./loop.ts";
import type { Checkpoint, Phase, TrainingRun } from "./run.ts";
import { GradScaler } from "./scaler.ts";
import type { Validation } from "./validation.ts";

export interface DenoiserTraining<Data extends BodyBatch>
  extends WorkOptions, Pick<DenoisingTask<Data>, "count" | "shape" | "skipped" | "processes" | "data"> {
  /** Its recipe, seed and plan are followed. */
  run: TrainingRun;
  phase: Phase;
  /** As progress calls it. */
  stage: string;
  /** How long, where no steps are planned. */
  seconds: number;
  resume?: Checkpoint;
  compute: Compute;
  models: DenoisingModels;
  /** Trained in the place of the models' own weights. */
  adapter?: PersonAdapter | null;
  validation?: Validation;
  /** Further files of a checkpoint. */
  alsoSaved?: () => Record<string, ReadonlyMap<string, Tensor>>;
}

/** Trains to the end of the plan; the weights end as the run's recipe says: averaged, or the best that was validated. */
export function trainDenoiser<Data extends BodyBatch>(o: DenoiserTraining<Data>): Promise<LoopResult> {
  const { run, adapter, signal, processes } = o;
  const { unet, controlnet, scheduler } = o.models;
  const { device, precision } = o.compute;
  const { recipe, seed, plan } = run.config;
  return trainLoop({
    run,
    phase: o.phase,
    stage: o.stage,
    recipe,
    processes,
    alsoSaved: o.alsoSaved,
    parameters: adapter ? adapter.namedParameters() : [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")],
    clipped: recipe.clip === "controlnet" ? (adapter?.ofControlNet() ?? controlnet.parameters()) : undefined,
    validation: o.validation,
    scaler: precision === "float16" ? new GradScaler() : undefined,
    seed,
    plan: plan.body,
    seconds: o.seconds,
    resume: o.resume,
    onPlanned: (planned) => {
      plan.body = planned.slice();
      run.save();
    },
    onProgress: o.onProgress,
    signal,
    gradients: denoisingGradients<Data>({
      recipe,
      scheduler,
      count: o.count,
      seed,
      shape: o.shape,
      device,
      precision,
      signal,
      skipped: o.skipped,
      processes,
      data: o.data,
      loss: (batch) => denoisingLoss(o.models, batch),
    }),
  });
}
