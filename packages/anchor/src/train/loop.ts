/** The loop every training shares: random numbers by step, a schedule over a fixed number of steps, saving, logging, validating, stopping. */
import { setImmediate as breathe } from "node:timers/promises";
import { AdamW, backward, clipGradNorm, Generator, noGrad, scope, type Parameter, type Tensor } from "@make-your-anchor/torch";
import { AnchorError } from "../errors.ts";
import type { WorkOptions } from "../progress.ts";
import { Ema } from "./ema.ts";
import { Processes } from "./processes.ts";
import { rateAt, type Recipe } from "./recipe.ts";
import type { Checkpoint, Phase, Plan, TrainingRun } from "./run.ts";
import type { GradScaler } from "./scaler.ts";
import type { Validation } from "./validation.ts";

/** What one batch is made from. */
export interface Batch {
  /** Which one, counted from 0 over the whole training: a step has as many as the recipe adds up. */
  index: number;
  /** Share of the planned steps that is done, 0..1; 0 until there is a plan. */
  progress: number;
  /** Everything random about it. */
  g: Generator;
  /** The loss is multiplied by this on the way back, and only there. */
  scale: number;
  /** Runs and times what keeps the engine busy; all else is waiting for data. */
  compute: <T>(work: () => T) => T;
}

/** Adds the gradients of a loss whose graph is kept whole. @returns the loss */
export const plainGradients = ({ scale, compute }: Batch, loss: () => Tensor): number =>
  compute(() =>
    scope(() => {
      const l = loss();
      backward(scale === 1 ? l : l.mul(scale));
      return l.item();
    }),
  );

/** What the loop itself needs of a recipe. */
export type LoopRecipe = Pick<Recipe, "accumulate" | "lr" | "weightDecay" | "schedule" | "warmup" | "ema" | "maxGradNorm">;

export interface LoopOptions extends WorkOptions {
  run: TrainingRun;
  phase: Phase;
  stage: string;
  recipe: LoopRecipe;
  /** Every weight that is trained, by name. */
  parameters: readonly (readonly [string, Parameter])[];
  /** Whose gradients are clipped; default all. */
  clipped?: readonly Parameter[];
  seed: number;
  /** Total steps; while it is empty, as many are planned as fit into `seconds`, anew from time to time: other work comes and goes. */
  plan: Plan;
  seconds: number;
  /** Adds the gradients of a batch's mean loss, and gives the loss. */
  gradients: (batch: Batch) => number | Promise<number>;
  /** Default: this one alone. */
  processes?: Processes;
  /** For float16. */
  scaler?: GradScaler;
  /** Renders now and then, and the best state it saw is what training ends with. */
  validation?: Validation;
  /** Further files of a checkpoint: tensors by name, not owned. */
  alsoSaved?: () => Record<string, ReadonlyMap<string, Tensor>>;
  /** State to go on from; one of another phase is left alone. */
  resume?: Checkpoint;
  onPlanned?: (plan: Plan) => void;
}

export interface LoopResult {
  /** Steps whose gradients overflowed in float16 and were left out. */
  overflowed: number;
  /** Share of the loop's time in which the engine computed rather than waited for data; 0..1. */
  busy: number;
}

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
 * Trains; the weights end as their moving average. Each batch draws from a generator seeded by its number, so a run that was
 * interrupted repeats the very numbers an uninterrupted one would have drawn.
 * @throws {AnchorError} `DIVERGED` where loss or gradients are no longer finite; the state before is saved
 */
export async function trainLoop(o: LoopOptions): Promise<LoopResult> {
  const { recipe, scaler, validation, processes = new Processes() } = o;
  const { main } = processes;
  const { accumulate } = recipe;
  const optimizer = new AdamW(o.parameters, { lr: recipe.lr, weightDecay: recipe.weightDecay });
  const ema = recipe.ema > 0 ? new Ema(o.parameters) : undefined;
  const all = o.parameters.map(([, p]) => p);
  const clipped = new Set(o.clipped ?? all);
  const unclipped = all.filter((p) => !clipped.has(p));
  for (const p of all) p.value.requiresGrad_();
  let step = 0;
  if (o.resume && o.resume.phase === o.phase) {
    using weights = o.run.openFile(o.resume, "weights");
    using state = o.run.openFile(o.resume, "optimizer");
    scope(() => noGrad(() => o.parameters.forEach(([name, p]) => void p.value.detach().copy_(weights.read(name)))));
    if (ema) {
      using average = o.run.openFile(o.resume, "ema");
      ema.load(average);
    }
    if (scaler) {
      using scale = o.run.openFile(o.resume, "scaler");
      scaler.load(scale);
    }
    optimizer.loadStateDict(state);
    step = o.resume.step;
  }
  const plan: Plan = o.plan.slice();
  const fixed = plan.length > 0;
  const total = () => (plan.length > 0 ? plan[plan.length - 1].total : null);
  /** Total in force at a step. */
  const totalAt = (at: number) => plan.findLast((p) => p.step <= at)?.total ?? null;
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  let timedFrom = { at: 0, step: 0 };
  let replans = 0;
  let saved = { at: performance.now(), step };
  let smoothed = Number.NaN;
  let saveSeconds = 0;
  let computing = 0;
  const compute = <T>(work: () => T): T => {
    const from = performance.now();
    try {
      return work();
    } finally {
      computing += performance.now() - from;
    }
  };
  const result = { overflowed: 0, busy: 0 };
  const save = () => {
    if (!main) return;
    const from = performance.now();
    const state = optimizer.stateDict();
    const scale = scaler?.stateDict();
    try {
      o.run.saveCheckpoint(o.phase, step, {
        weights: new Map(o.parameters.map(([n, p]) => [n, p.value])),
        ...(ema ? { ema: ema.stateDict() } : {}),
        ...(scale ? { scaler: scale } : {}),
        optimizer: state,
        ...o.alsoSaved?.(),
      });
    } finally {
      state.get("step")?.dispose(); // made for saving; the moments are the optimiser's own
      for (const t of scale?.values() ?? []) t.dispose();
    }
    saved = { at: performance.now(), step };
    saveSeconds = (saved.at - from) / 1000;
  };
  /** Stops before the weights take harm. */
  const diverged = (what: string): AnchorError => {
    if (step > saved.step) save();
    return new AnchorError(
      "DIVERGED",
      `${o.stage}: the ${what} at step ${step + 1}: the last good state is kept in ${o.run.folder}; start over with --fresh and a lower rate (--lr; this one was ${optimizer.lr.toPrecision(2)})`,
    );
  };
  const first = step;
  try {
    for (;;) {
      if (!fixed && main) {
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
      // The first process's plan and will are all processes'.
      const [steps, stop] = processes.follow([total() ?? -1, o.signal?.aborted ? 1 : 0]);
      if (stop) {
        if (step > 0) save();
        o.signal?.throwIfAborted();
        throw new DOMException("stopped", "AbortError");
      }
      if (!main && steps >= 0 && steps !== total()) plan.push({ step, total: steps });
      if (steps >= 0 && step >= steps) break;
      // Until there is a plan the rate only warms up.
      optimizer.lr = recipe.lr * rateAt(recipe, step, totalAt(step));
      let value = 0;
      for (let k = 0; k < accumulate; k++) {
        const index = step * accumulate + k;
        using g = new Generator(o.seed * 1_000_003 + index);
        value +=
          (await o.gradients({
            index,
            progress: step / (totalAt(step) ?? Number.POSITIVE_INFINITY),
            g,
            scale: (scaler?.scale ?? 1) / accumulate,
            compute,
          })) / accumulate;
      }
      value = processes.sumOf(value);
      if (!Number.isFinite(value)) throw diverged(`loss became ${value}`);
      compute(() => {
        if (processes.count > 1) processes.sum(all.map((p) => p.value.grad).filter((g): g is Tensor => g !== null));
        const finite = scaler?.unscale(all) ?? true;
        scaler?.update(finite);
        if (!finite) {
          result.overflowed++;
        } else {
          const norms = [clipGradNorm(clipped, recipe.maxGradNorm), clipGradNorm(unclipped, Number.POSITIVE_INFINITY)];
          if (!norms.every(Number.isFinite)) throw diverged("gradients were no longer finite");
          optimizer.step();
        }
        optimizer.zeroGrad();
        step++;
        if (finite) ema?.update(recipe.ema, step);
      });
      smoothed = Number.isNaN(smoothed) ? value : 0.95 * smoothed + 0.05 * value;
      if (main && (step % logEvery === 0 || step === total())) o.run.log({ phase: o.phase, step, loss: value, lr: optimizer.lr });
      o.onProgress?.({ stage: o.stage, done: step, total: total() ?? Number.NaN, note: `loss ${smoothed.toPrecision(3)}` });
      if (main && validation?.due(step, totalAt(step))) {
        ema?.swap();
        try {
          const scores = await validation.measure(step, o.parameters, o.signal);
          o.run.log({ phase: o.phase, step, ...scores });
        } finally {
          ema?.swap();
        }
      }
      if ((performance.now() - saved.at) / 1000 > Math.max(saveEvery.seconds, saveEvery.timesItsOwn * saveSeconds) && plan.length > 0)
        save();
      if (step % 2 === 0) await breathe();
    }
    if (step > saved.step || step === first) save();
    result.busy = step > first ? computing / (performance.now() - started) : 1;
    ema?.apply();
    validation?.restore(step, o.parameters);
    for (const p of all) p.value.requiresGrad_(false);
    return result;
  } finally {
    optimizer.dispose();
    ema?.dispose();
  }
}
