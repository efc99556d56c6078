/** The loop every training shares: random numbers by step, a schedule over a fixed number of steps, saving, logging, stopping. */
import { setImmediate as breathe } from "node:timers/promises";
import {
  AdamW,
  backward,
  clipGradNorm,
  cosine,
  Generator,
  keep,
  noGrad,
  ops,
  scope,
  type Parameter,
  type Tensor,
} from "@make-your-anchor/torch";
import { AnchorError } from "../errors.ts";
import type { Preset } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import type { Checkpoint, Phase, Plan, TrainingRun } from "./run.ts";

/** Exponential moving average of weights. */
export class Ema {
  private readonly parameters: readonly (readonly [string, Parameter])[];
  private readonly shadow: Tensor[];

  constructor(parameters: readonly (readonly [string, Parameter])[]) {
    this.parameters = parameters;
    this.shadow = noGrad(() => parameters.map(([, p]) => keep(p.value.clone())));
  }
  /** `step` counts from 1: the average follows faster at first. */
  update(decay: number, step: number): void {
    const d = Math.min(decay, (1 + step) / (10 + step));
    scope(() =>
      noGrad(() => {
        ops._foreach_mul__Scalar(this.shadow, d);
        ops._foreach_add__List(
          this.shadow,
          this.parameters.map(([, p]) => p.value.detach()),
          1 - d,
        );
      }),
    );
  }
  /** The averages under the parameters' names, not copied. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.parameters.map(([name], i) => [name, this.shadow[i]]));
  }
  load(source: { read(key: string): Tensor }): void {
    scope(() => noGrad(() => this.parameters.forEach(([name], i) => void this.shadow[i].copy_(source.read(name)))));
  }
  /** Puts the averages into the parameters. */
  apply(): void {
    noGrad(() => this.parameters.forEach(([, p], i) => p.set(this.shadow[i].clone())));
  }
  dispose(): void {
    for (const t of this.shadow) t.dispose();
  }
}

/** Adds the gradients of a loss whose graph is kept whole. */
export const plainGradients = (loss: () => Tensor): number =>
  scope(() => {
    const l = loss();
    backward(l);
    return l.item();
  });

export interface LoopOptions extends WorkOptions {
  run: TrainingRun;
  phase: Phase;
  stage: string;
  /** Every weight that is trained, by name. */
  parameters: readonly (readonly [string, Parameter])[];
  /** Whose gradients are clipped. */
  clipped?: readonly Parameter[];
  maxGradNorm?: number;
  lr: number;
  weightDecay: number;
  emaDecay: number;
  seed: number;
  /** Total steps; while it is empty, as many are planned as fit into `seconds`, anew from time to time: other work comes and goes. */
  plan: Plan;
  seconds: number;
  /** Adds the gradients of a step's loss, drawn from the step's own random numbers, and gives the loss. */
  gradients: (step: number, g: Generator) => number | Promise<number>;
  /** Default: a short warm-up, then down a cosine. */
  schedule?: "cosine" | "constant";
  /** Further files of a checkpoint: tensors by name, not owned. */
  alsoSaved?: () => Record<string, ReadonlyMap<string, Tensor>>;
  /** State to go on from; one of another phase is left alone. */
  resume?: Checkpoint;
  onPlanned?: (plan: Plan) => void;
}

/** How UNet and ControlNet are trained; at full size as the original: at a constant rate, without an average. */
export const denoiserSettings = (t: Preset["training"], full: boolean) =>
  ({
    lr: t.lr,
    weightDecay: t.weightDecay,
    emaDecay: t.emaDecay,
    maxGradNorm: t.maxGradNorm,
    schedule: full ? "constant" : "cosine",
  }) as const;

/** Steps timed before the first plan; the first few are slower. */
const timed = { skip: 3, count: 12 };
/** Shares of the time at which the plan is made anew; later the schedule is too far on. */
const replanAt = [0.03, 0.08, 0.15, 0.25, 0.4, 0.55, 0.7];
/** Share of the time after which slow steps are planned from fewer. */
const longestTiming = 0.05;
/** Seconds between checkpoints, and how many times as long as the last one took to write it is at least until the next. */
const saveEvery = { seconds: 45, timesItsOwn: 20 };
/** Steps between lines in metrics.jsonl. */
const logEvery = 5;

/**
 * Trains; the weights end as their moving average. Each step draws from a generator seeded by the step, so a run that was
 * interrupted repeats the very numbers an uninterrupted one would have drawn.
 */
export async function trainLoop(o: LoopOptions): Promise<void> {
  const optimizer = new AdamW(o.parameters, { lr: o.lr, weightDecay: o.weightDecay });
  const ema = o.emaDecay > 0 ? new Ema(o.parameters) : undefined;
  for (const [, p] of o.parameters) p.value.requiresGrad_();
  let step = 0;
  if (o.resume && o.resume.phase === o.phase) {
    using weights = o.run.openFile(o.resume, "weights");
    using state = o.run.openFile(o.resume, "optimizer");
    scope(() => noGrad(() => o.parameters.forEach(([name, p]) => void p.value.detach().copy_(weights.read(name)))));
    if (ema) {
      using average = o.run.openFile(o.resume, "ema");
      ema.load(average);
    }
    optimizer.loadStateDict(state);
    step = o.resume.step;
  }
  const schedule = cosine(0.03, 0.03);
  const plan: Plan = o.plan.slice();
  const fixed = plan.length > 0;
  const total = () => (plan.length > 0 ? plan[plan.length - 1].total : null);
  /** Total in force at a step. */
  const totalAt = (at: number) => plan.findLast((p) => p.step <= at)?.total ?? null;
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  let timedFrom = { at: 0, step: 0 };
  let replans = 0;
  let saved = performance.now();
  let smoothed = Number.NaN;
  let saveSeconds = 0;
  const save = () => {
    const from = performance.now();
    const state = optimizer.stateDict();
    try {
      o.run.saveCheckpoint(o.phase, step, {
        weights: new Map(o.parameters.map(([n, p]) => [n, p.value])),
        ...(ema ? { ema: ema.stateDict() } : {}),
        optimizer: state,
        ...o.alsoSaved?.(),
      });
    } finally {
      state.get("step")?.dispose(); // made for saving; the moments are the optimiser's own
    }
    saved = performance.now();
    saveSeconds = (saved - from) / 1000;
  };
  const first = step;
  try {
    for (let steps = total(); steps === null || step < steps; steps = total()) {
      if (o.signal?.aborted) {
        if (step > 0) save();
        o.signal.throwIfAborted();
      }
      if (!fixed) {
        const done = step - first;
        if (done === timed.skip) timedFrom = { at: elapsed(), step };
        const due =
          plan.length === 0
            ? done >= timed.skip + timed.count || (done > timed.skip && elapsed() > longestTiming * o.seconds)
            : replans < replanAt.length && elapsed() > replanAt[replans] * o.seconds;
        if (due) {
          while (replans < replanAt.length && elapsed() > replanAt[replans] * o.seconds) replans++;
          const each = (elapsed() - timedFrom.at) / (step - timedFrom.step || 1);
          plan.push({ step, total: Math.max(step + 1, step + Math.floor((o.seconds - elapsed()) / each)) });
          timedFrom = { at: elapsed(), step };
          o.onPlanned?.(plan);
        }
      }
      // Until there is a plan the rate only warms up.
      const planned = totalAt(step);
      optimizer.lr =
        o.schedule === "constant"
          ? o.lr
          : o.lr * Math.min((step + 1) / 50, planned === null ? 1 : schedule(Math.max(0.03, step / planned)));
      using g = new Generator(o.seed * 1_000_003 + step);
      const value = await o.gradients(step, g);
      if (!Number.isFinite(value)) {
        throw new AnchorError(
          "DIVERGED",
          `${o.stage}: the loss became ${value} at step ${step + 1}: the last good state is kept in ${o.run.folder}; type the same command to go on from it, or start over with --fresh and a lower --lr`,
        );
      }
      if (o.clipped && o.maxGradNorm) clipGradNorm(o.clipped, o.maxGradNorm);
      optimizer.step();
      optimizer.zeroGrad();
      step++;
      ema?.update(o.emaDecay, step);
      smoothed = Number.isNaN(smoothed) ? value : 0.95 * smoothed + 0.05 * value;
      if (step % logEvery === 0 || step === total()) o.run.log({ phase: o.phase, step, loss: value, lr: optimizer.lr });
      o.onProgress?.({ stage: o.stage, done: step, total: total() ?? Number.NaN, note: `loss ${smoothed.toPrecision(3)}` });
      if ((performance.now() - saved) / 1000 > Math.max(saveEvery.seconds, saveEvery.timesItsOwn * saveSeconds) && plan.length > 0) save();
      if (step % 2 === 0) await breathe();
    }
    save();
    ema?.apply();
    for (const [, p] of o.parameters) p.value.requiresGrad_(false);
  } finally {
    optimizer.dispose();
    ema?.dispose();
  }
}
