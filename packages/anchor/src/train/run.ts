/** A training run's folder: what was asked, what was measured, and the last states to go on from. */
import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { SafetensorsFile, saveSafetensors, type Tensor } from "@make-your-anchor/torch";
import type { Avatar } from "../avatar.ts";
import type { Precision } from "../compute.ts";
import { AnchorError } from "../errors.ts";
import { EventFile } from "./tensorboard.ts";
import type { Recipe } from "./recipe.ts";
import { makeFolder, readJson, writeError, writeJson } from "../files.ts";

export interface RunConfig {
  target: Phase;
  preset: string;
  /** How many steps each part was planned to take, from which step on: the schedule depends on it, and a resumed run must follow the same one. */
  plan: {
    vae: Plan;
    /** UNet and ControlNet, of body or head. */
    body: Plan;
    /** The VAE's decoder at the end; left out where there is no such end, and of runs begun before there was one. */
    decoder?: Plan;
  };
  minutes: number | null;
  /** What the weights started from: "nothing", "published", or a folder. */
  from: string;
  /** Of UNet and ControlNet. */
  recipe: Recipe;
  /** What it was begun with; going on in another is no harm. */
  precision: Precision;
  /** Rank of the adapters that are trained; null: all weights are. */
  rank: number | null;
  seed: number;
  finished: boolean;
}

/** Total steps, as planned at a step; a later entry replaces the one before. */
export type Plan = { step: number; total: number }[];

/** Parts of a run: the VAE, then UNet and ControlNet of what is trained, then the VAE's decoder for what they sample. */
export type Phase = "vae" | "body" | "head" | "denoiser" | "decoder";

/** Where a part stands among those of its run. */
const order = (phase: Phase): number => (phase === "vae" ? 0 : phase === "decoder" ? 2 : 1);

/** Where a part of a run stands. */
export interface Checkpoint {
  phase: Phase;
  /** Steps done. */
  step: number;
  folder: string;
}

/** How many states are kept: the newest, and one before it in case the newest proves unusable. */
const kept = 2;

export class TrainingRun {
  readonly folder: string;
  config: RunConfig;
  private events: { phase: Phase; file: EventFile } | undefined;
  private from: Checkpoint | undefined;

  private constructor(folder: string, config: RunConfig) {
    this.folder = folder;
    this.config = config;
  }

  static create(runs: string, config: RunConfig): TrainingRun {
    const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    let folder = join(runs, stamp);
    for (let i = 2; existsSync(folder); i++) folder = join(runs, `${stamp}-${i}`);
    makeFolder(join(folder, "checkpoints"));
    const run = new TrainingRun(folder, config);
    run.save();
    return run;
  }

  /** The run in a folder of its own: what is there goes on, else a new one begins. */
  static at(folder: string, config: RunConfig): TrainingRun {
    const path = join(folder, "config.json");
    if (existsSync(path)) return new TrainingRun(folder, readJson(path) as RunConfig);
    makeFolder(join(folder, "checkpoints"));
    const run = new TrainingRun(folder, config);
    run.save();
    return run;
  }

  /** The newest run of a target, if it was not finished. */
  static unfinished(runs: string, target: RunConfig["target"]): TrainingRun | undefined {
    if (!existsSync(runs)) return undefined;
    for (const name of readdirSync(runs).sort().reverse()) {
      const path = join(runs, name, "config.json");
      if (!existsSync(path)) continue;
      const config = readJson(path) as RunConfig;
      if (config.target !== target) continue;
      return config.finished ? undefined : new TrainingRun(join(runs, name), config);
    }
    return undefined;
  }

  save(): void {
    writeJson(join(this.folder, "config.json"), this.config);
  }

  private get metricsPath(): string {
    return join(this.folder, "metrics.jsonl");
  }

  /** Adds a line to metrics.jsonl, and its numbers to TensorBoard's events. */
  log(entry: { phase: Phase; step: number } & Record<string, number | string>): void {
    try {
      appendFileSync(this.metricsPath, `${JSON.stringify(entry)}\n`);
    } catch (cause) {
      throw writeError(this.metricsPath, cause);
    }
    const events = this.eventsOf(entry.phase);
    for (const [name, value] of Object.entries(entry))
      if (typeof value === "number" && name !== "step") events.scalar(name, entry.step, value);
  }

  /** A picture for TensorBoard. */
  image(tag: string, step: number, png: Uint8Array): void {
    this.events?.file.image(tag, step, png);
  }
  /** TensorBoard's purge of what follows a step knows no names, so each part has a folder of its own. */
  private eventsOf(phase: Phase): EventFile {
    if (this.events?.phase !== phase) {
      const from = this.from?.phase === phase ? this.from.step : 0;
      this.events = { phase, file: new EventFile(makeFolder(join(this.folder, "events", phase)), from) };
    }
    return this.events.file;
  }

  /** Takes back what was logged after the state that training goes on from. */
  rewindMetrics(checkpoint: Checkpoint | undefined): void {
    this.from = checkpoint;
    if (!existsSync(this.metricsPath)) return;
    const lines = readFileSync(this.metricsPath, "utf8").split("\n");
    let length = 0;
    for (const line of lines) {
      let entry: { phase?: Phase; step?: number };
      try {
        entry = JSON.parse(line);
      } catch {
        break; // empty, or cut short by a crash
      }
      const before =
        checkpoint !== undefined &&
        (entry.phase === checkpoint.phase ? entry.step! <= checkpoint.step : order(entry.phase!) < order(checkpoint.phase));
      if (!before) break;
      length += Buffer.byteLength(line) + 1;
    }
    truncateSync(this.metricsPath, length);
  }

  /** @throws {AnchorError} `FINISHED` where the run came to its end */
  requireUnfinished(): void {
    if (this.config.finished)
      throw new AnchorError("FINISHED", `${this.folder}: this part is finished: train it again from the start with --fresh`, {
        misuse: true,
      });
  }
  /** The newest whole checkpoint. */
  latest(): Checkpoint | undefined {
    const root = join(this.folder, "checkpoints");
    if (!existsSync(root)) return undefined;
    const all = readdirSync(root).flatMap((name): Checkpoint[] => {
      const m = /^(vae|body|head|denoiser|decoder)-(\d+)$/.exec(name);
      return m ? [{ phase: m[1] as Phase, step: Number(m[2]), folder: join(root, name) }] : [];
    });
    return all.sort((a, b) => (a.phase === b.phase ? b.step - a.step : order(b.phase) - order(a.phase)))[0];
  }

  /** Writes a checkpoint under another name and renames it: a crash leaves the one before. */
  saveCheckpoint(phase: Phase, step: number, files: Record<string, ReadonlyMap<string, Tensor>>): void {
    const root = join(this.folder, "checkpoints");
    const name = `${phase}-${step}`;
    const temporary = join(root, `.${name}.tmp`);
    // Also what another process, killed while it wrote, left behind.
    for (const n of readdirSync(root)) if (/^\..*\.tmp$/.test(n)) rmSync(join(root, n), { recursive: true, force: true });
    makeFolder(temporary);
    try {
      for (const [file, tensors] of Object.entries(files)) saveSafetensors(join(temporary, `${file}.safetensors`), tensors);
      rmSync(join(root, name), { recursive: true, force: true });
      renameSync(temporary, join(root, name));
    } catch (cause) {
      rmSync(temporary, { recursive: true, force: true });
      throw writeError(root, cause);
    }
    const mine = readdirSync(root)
      .filter((n) => n.startsWith(`${phase}-`))
      .sort((a, b) => Number(b.split("-")[1]) - Number(a.split("-")[1]));
    for (const old of mine.slice(kept)) rmSync(join(root, old), { recursive: true, force: true });
    for (const old of readdirSync(root))
      if (order(old.split("-")[0] as Phase) < order(phase)) rmSync(join(root, old), { recursive: true, force: true });
  }

  openFile(checkpoint: Checkpoint, file: string): SafetensorsFile {
    const path = join(checkpoint.folder, `${file}.safetensors`);
    if (!existsSync(path))
      throw new AnchorError(
        "CHECKPOINT",
        `${path}: missing from the checkpoint: delete ${checkpoint.folder} to go on from the one before, or start over with --fresh`,
      );
    return new SafetensorsFile(path);
  }
}

/** The unfinished run of a target to go on with (for a process that is not the main one always: that is what the main one opened), or a new one. Made only when everything that training needs is there. */
export function openRun(
  avatar: Avatar,
  target: RunConfig["target"],
  o: {
    fresh?: boolean;
    steps?: number;
    minutes?: number;
    from: string;
    recipe: Recipe;
    precision: Precision;
    rank: number | null;
    seed?: number;
  },
  /** Of a new run, where none is asked for. */
  seed: number,
  main = true,
): TrainingRun {
  const runs = avatar.path("runs");
  const going = o.fresh && main ? undefined : TrainingRun.unfinished(runs, target);
  if (going) sameSettings(going, o);
  const planOf = (steps: number): Plan => [{ step: 0, total: Math.max(1, Math.round(steps)) }];
  return (
    going ??
    TrainingRun.create(runs, {
      target,
      preset: avatar.info.preset,
      plan:
        o.steps === undefined
          ? { vae: [], body: [], decoder: [] }
          : { vae: planOf(o.steps / 3), body: planOf(o.steps), decoder: planOf(o.steps / 3) },
      minutes: o.minutes ?? null,
      from: o.from,
      recipe: o.recipe,
      precision: o.precision,
      rank: o.rank,
      seed: o.seed ?? seed,
      finished: false,
    })
  );
}

/** A run goes on as it was begun. @throws {AnchorError} `OPTION` naming what differs */
export function sameSettings(
  run: TrainingRun,
  { from, recipe, rank, seed }: { from: string; recipe: Recipe; rank: number | null; seed?: number },
): void {
  const begun = run.config;
  if (!begun.recipe)
    throw new AnchorError(
      "OPTION",
      `${run.folder}: this run was begun by an earlier version, which kept no recipe: start over with --fresh`,
      {
        misuse: true,
      },
    );
  const changed = (Object.keys(recipe) as (keyof Recipe)[]).filter((k) => begun.recipe[k] !== recipe[k]);
  const differences = [
    ...(begun.from === from ? [] : [`from ${begun.from}, not ${from}`]),
    ...(begun.rank === rank ? [] : [begun.rank === null ? "without an adapter" : `with an adapter of rank ${begun.rank}`]),
    ...(seed === undefined || begun.seed === seed ? [] : [`with seed ${begun.seed}, not ${seed}`]),
    ...changed.map((k) => `with ${k} ${begun.recipe[k]}, not ${recipe[k]}`),
  ];
  if (differences.length > 0)
    throw new AnchorError(
      "OPTION",
      `${run.folder}: this run was begun ${differences.join(" and ")}: go on with the same settings, or start over with --fresh`,
      { misuse: true },
    );
}
