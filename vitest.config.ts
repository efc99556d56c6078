import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const workers = 2;
// The files share the cores: more threads than cores take turns at every operator's end, which more than doubles the time.
process.env.OMP_NUM_THREADS ??= String(Math.max(1, Math.floor(availableParallelism() / workers)));

export default defineConfig({
  test: {
    include: ["packages/*/src/**/*.test.ts", "test/**/*.test.ts"],
    // The engine is a native library: a process per file.
    pool: "forks",
    execArgv: ["--expose-gc"],
    maxWorkers: workers,
    testTimeout: 300_000,
    hookTimeout: 600_000,
  },
});
