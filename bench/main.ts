/**
 * Benchmarks of the engine on the diffusion models, and beside Python torch on the same work.
 *
 *   npm run bench -- infer-mini|window-mini|train-mini|infer-sd15|window-sd15|condition-512 … [--repeat N] [--threads N]
 *       [--device cuda [--dtype float16] [--channels-last]] [--json]
 *   npm run bench -- load-sd15 --weights FILE
 *   npm run bench -- overhead [--python PROGRAM] [--json]
 *   npm run bench -- compare [names …] [--peer FILE] [--python PROGRAM] [--device cuda [--dtype float16] [--channels-last]] [--json]
 *
 *   npm run bench -- people|base-curve …   what training gives, in minutes: people.ts, base-curve.ts
 *
 * Each measurement runs in a process of its own, so that its peak memory is its own. `compare` runs ours and the peer's in turn, on the
 * same libtorch version, threads and repeats; the peer is a Python script with the same measurements (--peer). On a GPU
 * the memory is the GPU's.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { DType } from "@make-your-anchor/torch";
import { measurements, shared, type MeasurementName } from "./measurements.ts";

const separate: Record<string, string> = { people: "./people.ts", "base-curve": "./base-curve.ts" };
const asked = separate[process.argv[2]];
if (asked) {
  await import(asked);
  process.exit(0);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    repeat: { type: "string", default: "5" },
    warmup: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
    peer: { type: "string" },
    python: { type: "string" },
    weights: { type: "string" },
    device: { type: "string", default: "cpu" },
    dtype: { type: "string", default: "float32" },
    "channels-last": { type: "boolean", default: false },
    child: { type: "boolean", default: false },
  },
});

interface Row {
  name: string;
  min_s: number;
  median_s: number;
  peak_rss_mb: number;
  /** Largest memory held by tensors on the GPU, MiB; null on the CPU. */
  peak_gpu_mb: number | null;
  threads: number;
  torch: string;
}

const caller = process.env.ANCHOR_CALLER_DIR ?? process.cwd();
const known = Object.keys(measurements) as MeasurementName[];
const compare = positionals[0] === "compare";
const overhead = positionals[0] === "overhead";
const names = (compare || overhead ? positionals.slice(1) : positionals) as MeasurementName[];
const possible: readonly MeasurementName[] = compare ? shared : known;
const unknown = names.filter((n) => !possible.includes(n));
if (unknown.length > 0 || (!compare && !overhead && names.length === 0)) {
  console.error(
    `bench: ${unknown.length > 0 ? `unknown measurement ${unknown.join(", ")}; ` : ""}known: ${possible.join(", ")}${compare ? "" : ", overhead, compare, people, base-curve"}`,
  );
  process.exit(2);
}

if (values.child) {
  const { cudaMemory, engineInfo, setThreads } = await import("@make-your-anchor/torch");
  setThreads(Number(values.threads));
  const times = measurements[names[0]]({
    warmup: Number(values.warmup),
    count: Number(values.repeat),
    weights: values.weights,
    device: values.device,
    dtype: values.dtype as DType,
    channelsLast: values["channels-last"],
  });
  times.sort((a, b) => a - b);
  const gpu = values.device === "cpu" ? null : cudaMemory(values.device);
  const row: Row = {
    name: names[0],
    min_s: times[0],
    median_s: times[Math.floor(times.length / 2)],
    peak_rss_mb: Math.round(process.resourceUsage().maxRSS / 1024),
    peak_gpu_mb: gpu && Math.round(gpu.peakAllocated / 2 ** 20),
    threads: engineInfo().threads,
    torch: engineInfo().version,
  };
  console.log(JSON.stringify(row));
  process.exit(0);
}

function ours(name: string): Row {
  console.error(`${name} …`);
  const run = spawnSync(
    process.execPath,
    [
      fileURLToPath(import.meta.url),
      name,
      "--child",
      "--repeat",
      values.repeat,
      "--warmup",
      values.warmup,
      "--threads",
      values.threads,
      "--device",
      values.device,
      "--dtype",
      values.dtype,
      ...(values["channels-last"] ? ["--channels-last"] : []),
      ...(values.weights ? ["--weights", resolve(caller, values.weights)] : []),
    ],
    {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, OMP_NUM_THREADS: values.threads, OPENBLAS_NUM_THREADS: values.threads },
    },
  );
  if (run.status !== 0) throw new Error(`bench ${name} failed`);
  return JSON.parse(run.stdout.trim().split("\n").at(-1)!) as Row;
}

/** The Python whose torch is the same version as ours. */
function python(version: string): string | undefined {
  const wanted = version.split(".").slice(0, 2).join(".");
  for (const program of values.python ? [values.python] : ["python3", "/usr/bin/python3"]) {
    const run = spawnSync(program, ["-c", "import torch; print(torch.__version__)"], { encoding: "utf8" });
    if (run.status === 0 && run.stdout.trim().split(".").slice(0, 2).join(".") === wanted) return program;
  }
  return undefined;
}

const peerPath = values.peer ? resolve(caller, values.peer) : fileURLToPath(new URL("../../shared/peers/bench_torch.py", import.meta.url));

function peer(program: string, name: string, malloc: "default" | "keep"): Row {
  console.error(`${name}, Python torch, malloc ${malloc} …`);
  const run = spawnSync(
    program,
    [
      peerPath,
      name,
      ...["--threads", values.threads, "--repeat", values.repeat, "--warmup", values.warmup, "--malloc", malloc],
      ...["--device", values.device, "--dtype", values.dtype],
    ],
    { encoding: "utf8" },
  );
  if (run.status !== 0) throw new Error(`bench compare: ${peerPath} ${name} failed: ${run.stderr.trim().split("\n").at(-1)}`);
  const out = JSON.parse(run.stdout) as {
    torch: string;
    results: { total: { min_s: number; median_s: number }; peak_rss_mib: number; cuda_peak_mib?: number; threads: number }[];
  };
  const r = out.results[0];
  return {
    name,
    min_s: r.total.min_s,
    median_s: r.total.median_s,
    peak_rss_mb: r.peak_rss_mib,
    peak_gpu_mb: r.cuda_peak_mib ?? null,
    threads: r.threads,
    torch: out.torch,
  };
}

if (overhead) {
  const { engineInfo } = await import("@make-your-anchor/torch");
  const { measureOverhead } = await import("./overhead.ts");
  const rows = measureOverhead(python(engineInfo().version));
  if (values.json) console.log(JSON.stringify(rows, null, 1));
  else
    for (const r of rows)
      console.log(
        `${r.name}: ${r.us.toFixed(2)} µs${r.ratio === null ? "" : `, Python ${r.python_us!.toFixed(2)} µs, ratio ${r.ratio.toFixed(2)}`}`,
      );
} else if (!compare) {
  const rows = names.map(ours);
  if (values.json) console.log(JSON.stringify(rows.length === 1 ? rows[0] : rows, null, 1));
  else
    for (const r of rows)
      console.log(
        `${r.name}: min ${r.min_s.toFixed(3)} s, median ${r.median_s.toFixed(3)} s, peak ${r.peak_rss_mb} MB${r.peak_gpu_mb === null ? "" : ` and ${r.peak_gpu_mb} MiB on the GPU`}, ${r.threads} threads, libtorch ${r.torch}`,
      );
} else {
  const { engineInfo } = await import("@make-your-anchor/torch");
  const program = existsSync(peerPath) ? python(engineInfo().version) : undefined;
  if (!program) {
    console.error(
      existsSync(peerPath)
        ? `bench compare: no Python with torch ${engineInfo().version} was found: install it ("apt-get install python3-torch" goes with the system's libtorch), or name one with --python`
        : `bench compare: ${peerPath} is not there: name the Python benchmark with --peer FILE`,
    );
    process.exit(1);
  }
  const out = (names.length > 0 ? names : shared).map((name) => {
    const mine = ours(name);
    const plain = peer(program, name, "default");
    // What malloc keeps is nothing to a GPU.
    const keep = values.device === "cpu" ? peer(program, name, "keep") : plain;
    const memory = (r: Row) => r.peak_gpu_mb ?? r.peak_rss_mb;
    const ratio = (p: Row) => ({ time: mine.min_s / p.min_s, memory: memory(mine) / memory(p) });
    return { name, ours: mine, python: { default: plain, keep }, ratio: { default: ratio(plain), keep: ratio(keep) } };
  });
  if (values.json) console.log(JSON.stringify(out, null, 1));
  else {
    for (const r of out) {
      const text = (x: { time: number; memory: number }) => `time ${x.time.toFixed(2)}, memory ${x.memory.toFixed(2)}`;
      console.log(
        `${r.name}: ours ${r.ours.min_s.toFixed(3)} s; ratio to Python torch's default run: ${text(r.ratio.default)}; to its run with freed memory kept: ${text(r.ratio.keep)}`,
      );
    }
  }
}
