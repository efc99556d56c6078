import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fromData, noGrad, Parameter, scope, zeros } from "@make-your-anchor/torch";
import { plainGradients, trainLoop, type LoopOptions, type LoopRecipe } from "./loop.ts";
import { referenceRecipe } from "./recipe.ts";
import { TrainingRun } from "./run.ts";
import type { Validation } from "./validation.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "loop-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const newRun = (name = "run", steps = 40) =>
  TrainingRun.at(join(folder, name), {
    target: "body",
    preset: "mini",
    plan: { vae: [], body: [{ step: 0, total: steps }] },
    minutes: null,
    from: "nothing",
    recipe: referenceRecipe,
    precision: "float32",
    rank: null,
    seed: 3,
    finished: false,
  });
const recipe: LoopRecipe = { accumulate: 1, lr: 0.05, weightDecay: 0, schedule: "constant", warmup: 0, ema: 0, maxGradNorm: 100 };
const start = (values: number[] = [0, 0]) => {
  const p = new Parameter([values.length], (shape) => zeros(shape));
  p.set(fromData(Float32Array.from(values), [values.length]));
  return p;
};
/** The loss of a parameter: its squared distance to a goal. */
const distance = (p: Parameter, goal: number[]) =>
  p.value
    .sub(fromData(Float32Array.from(goal), [goal.length]))
    .square()
    .sum();
const loop = (run: TrainingRun, p: Parameter, o: Partial<LoopOptions> = {}): LoopOptions => ({
  run,
  phase: "body",
  stage: "training",
  recipe,
  parameters: [["p", p]],
  seed: 1,
  plan: run.config.plan.body,
  seconds: 60,
  gradients: (batch) => plainGradients(batch, () => distance(p, [1, -1])),
  ...o,
});
const values = (p: Parameter) => scope(() => Array.from(noGrad(() => p.value.detach().clone()).floats()));

describe("the training loop", () => {
  test("batches that a step adds up give the gradient of one batch of all", async () => {
    const [whole, parts] = [start(), start()];
    const goals = [
      [1, -1],
      [3, 5],
      [-2, 0],
    ];
    await trainLoop(
      loop(newRun("whole"), whole, {
        gradients: (b) =>
          plainGradients(b, () =>
            distance(whole, goals[0])
              .add(distance(whole, goals[1]))
              .add(distance(whole, goals[2]))
              .mul(1 / 3),
          ),
      }),
    );
    const drawn: number[] = [];
    await trainLoop(
      loop(newRun("parts"), parts, {
        recipe: { ...recipe, accumulate: 3 },
        gradients: (b) => {
          drawn.push(b.index);
          return plainGradients(b, () => distance(parts, goals[b.index % 3]));
        },
      }),
    );
    expect(drawn).toEqual(Array.from({ length: 120 }, (_, k) => k));
    values(parts).forEach((v, k) => expect(v).toBeCloseTo(values(whole)[k], 5));
    const losses = (name: string) =>
      readFileSync(join(folder, name, "metrics.jsonl"), "utf8")
        .trim()
        .split("\n")
        .map((l) => JSON.parse(l).loss as number);
    losses("parts").forEach((l, k) => expect(l).toBeCloseTo(losses("whole")[k], 4));
  });

  test("stops where loss or gradients are no longer finite, with the state before it", async () => {
    for (const [name, bad, message] of [
      ["loss", Number.NaN, /training: the loss became NaN at step 8: .*--fresh and a lower rate/],
      ["gradients", Number.POSITIVE_INFINITY, /training: the gradients were no longer finite at step 8/],
    ] as const) {
      const p = start();
      const run = newRun(name);
      let before: number[] = [];
      const gradients: LoopOptions["gradients"] = (batch) => {
        if (batch.index < 7) return plainGradients(batch, () => distance(p, [1, -1]));
        before = values(p);
        const loss = plainGradients({ ...batch, scale: bad }, () => distance(p, [1, -1]));
        return name === "loss" ? bad : loss;
      };
      await expect(trainLoop(loop(run, p, { gradients }))).rejects.toThrow(message);
      const kept = run.latest()!;
      expect(kept.step).toBe(7);
      using file = run.openFile(kept, "weights");
      expect(scope(() => Array.from(file.read("p").floats()))).toEqual(before);
    }
  });

  test("ends with the best state that was seen on held-out poses", async () => {
    const p = start();
    const states = new Map<number, number[]>();
    let best = 0;
    const validation = {
      due: (step: number) => step % 10 === 0,
      measure: async (step: number) => {
        states.set(step, values(p));
        const psnr = [20, 22, 21, 19][step / 10 - 1];
        if (psnr === 22) best = step;
        return { validation_psnr: psnr };
      },
      restore: () => noGrad(() => p.set(fromData(Float32Array.from(states.get(best)!), [2]))),
    } as unknown as Validation;
    await trainLoop(loop(newRun(), p, { validation, recipe: { ...recipe, ema: 0.9 } }));
    expect(best).toBe(20);
    expect(values(p)).toEqual(states.get(20));
    const logged = readFileSync(join(folder, "run", "metrics.jsonl"), "utf8");
    expect(logged).toContain('{"phase":"body","step":20,"validation_psnr":22}');
  });

  test("what waits for data does not count as busy", async () => {
    const p = start();
    const { busy } = await trainLoop(
      loop(newRun("run", 5), p, {
        gradients: async (batch) => {
          await sleep(20);
          return plainGradients(batch, () => distance(p, [1, -1]));
        },
      }),
    );
    expect(busy).toBeLessThan(0.5);
  });
});

test(
  "killed in the middle of a checkpoint's write, the one before is whole, and what lies half-written is in nobody's way",
  { timeout: 60_000 },
  async () => {
    const script = join(folder, "endless.ts");
    const at = (path: string) => new URL(path, import.meta.url).href;
    writeFileSync(
      script,
      `import { full } from "${at("../../../torch/src/index.ts")}";
import { TrainingRun } from "${at("./run.ts")}";
const run = TrainingRun.at(${JSON.stringify(join(folder, "run"))}, { plan: { vae: [], body: [] } });
for (let step = (run.latest()?.step ?? 0) + 1; ; step++) {
  const t = full([400_000], step);
  run.saveCheckpoint("body", step, { weights: new Map([["t", t]]), optimizer: new Map([["t", t]]), ema: new Map([["t", t]]) });
  t.dispose();
  process.stdout.write(step + "\\n");
}`,
    );
    let last = 0;
    for (let k = 0; k < 6; k++) {
      const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
      const goal = last + 1;
      // Until it has written that many.
      const announced = await new Promise<number>((done) =>
        child.stdout.on("data", (text: Buffer) => {
          const step = Number(text.toString().trim().split("\n").at(-1));
          if (step > goal) done(step);
        }),
      );
      await sleep(3 * k); // another moment of the write each time
      child.kill("SIGKILL");
      await new Promise((done) => void child.on("close", done));
      const run = TrainingRun.at(join(folder, "run"), newRun("other").config);
      const kept = run.latest()!;
      expect(kept.step).toBeGreaterThanOrEqual(announced);
      expect(kept.step).toBeLessThanOrEqual(announced + 50);
      for (const name of ["weights", "optimizer", "ema"]) {
        using file = run.openFile(kept, name);
        const [least, most] = scope(() => [file.read("t").min().item(), file.read("t").max().item()]);
        expect([least, most]).toEqual([kept.step, kept.step]);
      }
      last = kept.step;
    }
    expect(readdirSync(join(folder, "run", "checkpoints")).length).toBeLessThanOrEqual(4); // two, one more before rotation, one half-written
  },
);
