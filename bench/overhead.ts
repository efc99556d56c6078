/**
 * What a call costs apart from its arithmetic: small operators from TypeScript, and the same loop in Python.
 * `npm run bench -- overhead [--python PROGRAM] [--json]`
 */
import { spawnSync } from "node:child_process";
import { fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";

/** Calls between two readings of the clock. */
const calls = 2000;
const rounds = 40;

const operators: Record<string, { ours: (a: Tensor, b: Tensor) => Tensor; python: string }> = {
  add: { ours: (a, b) => a.add(b), python: "a + b" },
  mul_scalar: { ours: (a) => a.mul(2), python: "a * 2" },
  reshape: { ours: (a) => a.reshape([2, 2]), python: "a.reshape(2, 2)" },
  matmul: { ours: (a) => a.reshape([2, 2]).matmul(a.reshape([2, 2])), python: "a.reshape(2, 2).matmul(a.reshape(2, 2))" },
};

export interface Overhead {
  name: string;
  /** Microseconds a call, the best of many rounds. */
  us: number;
  python_us: number | null;
  ratio: number | null;
}

function ours(run: (a: Tensor, b: Tensor) => Tensor): number {
  using a = fromData(new Float32Array([1, 2, 3, 4]), [4]);
  using b = fromData(new Float32Array([5, 6, 7, 8]), [4]);
  let best = Number.POSITIVE_INFINITY;
  for (let r = 0; r < rounds; r++) {
    const from = performance.now();
    noGrad(() => {
      // Python frees each result at once; a scope of a few calls is how we do.
      for (let i = 0; i < calls; i += 20)
        scope(() => {
          for (let k = 0; k < 20; k++) run(a, b);
        });
    });
    best = Math.min(best, ((performance.now() - from) * 1000) / calls);
  }
  return best;
}

function python(program: string, expression: string): number {
  const script = `
import time, torch
torch.set_num_threads(1)
a, b = torch.tensor([1., 2., 3., 4.]), torch.tensor([5., 6., 7., 8.])
best = 1e9
with torch.no_grad():
    for _ in range(${rounds}):
        t = time.perf_counter()
        for _ in range(${calls}):
            c = ${expression}
        best = min(best, (time.perf_counter() - t) * 1e6 / ${calls})
print(best)`;
  const run = spawnSync(program, ["-c", script], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`${program}: ${run.stderr.trim().split("\n").at(-1)}`);
  return Number(run.stdout);
}

export function measureOverhead(program: string | undefined): Overhead[] {
  return Object.entries(operators).map(([name, o]) => {
    const us = ours(o.ours);
    const python_us = program ? python(program, o.python) : null;
    return { name, us, python_us, ratio: python_us === null ? null : us / python_us };
  });
}
