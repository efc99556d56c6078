/**
 * The engine on CUDA: its tests, the golden cases by dtype, the benchmark. Prints one JSON; exit code 1 when anything fails.
 *
 *   npm run gpu-check [-- --no-bench | --peer FILE]
 *
 * `--peer` names a Python benchmark with the same measurements; the bench is then beside it, with ratios (bench/main.ts, `compare`).
 */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { engineInfo } from "@make-your-anchor/torch";
import { shared, type MeasurementName } from "../bench/measurements.ts";
import { arithmeticOf } from "../golden/case.ts";
import { runGolden } from "../golden/run.ts";

const { values } = parseArgs({ options: { "no-bench": { type: "boolean", default: false }, peer: { type: "string" } } });
const device = "cuda:0";
const say = (text: string) => console.error(`gpu-check: ${text}`);
const info = engineInfo();
if (!info.cuda) {
  console.log(
    JSON.stringify({ gpu: true, cuda: false, ok: false, note: `libtorch ${info.version} sees no CUDA device: was it built with CUDA?` }),
  );
  process.exit(1);
}
const root = fileURLToPath(new URL("..", import.meta.url));
const program = (name: string, args: readonly string[], env: Record<string, string> = {}) => {
  say([name, ...args].join(" "));
  return spawnSync(name, args, {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
  });
};

const tests = program("vitest", ["run", "packages/torch"], { ANCHOR_TEST_DEVICE: device });
say(tests.status === 0 ? "tests passed" : `tests failed:\n${tests.stdout.slice(-6000)}`);

const golden = [];
for (const dtype of ["float32", "float16", "bfloat16"] as const) {
  say(`golden cases on ${device}, ${dtype}`);
  const { passed, failed, unsupported, cases } = await runGolden(`${root}/test/golden`, arithmeticOf(device, dtype));
  const tensors = cases.flatMap((c) =>
    c.tensors.map((t) => ({ case: c.case, tensor: t.tensor, worst: t.worst, ratio: t.ratio, ok: t.status })),
  );
  const failures = tensors.filter((t) => t.ok === "failed");
  // How near the allowance the nearest are, of those that ran on the GPU: what a slack of `arithmeticOf` is worth.
  const onGpu = new Set(cases.filter((c) => c.device === device && c.dtype === dtype).map((c) => c.case));
  const nearest = tensors
    .filter((t) => t.ok === "passed" && onGpu.has(t.case))
    .sort((a, b) => b.ratio - a.ratio)
    .slice(0, 3);
  const errors = cases.flatMap((c) => (c.error ? [`${c.case}: ${c.error}`] : []));
  const row = { dtype, passed, failed, unsupported, onGpu: onGpu.size, failures, nearest, errors };
  say(JSON.stringify(row));
  golden.push(row);
}

const bench = [];
const plans: [dtype: string, names: MeasurementName[], flags: string[]][] = [
  ["float32", ["infer-mini", "window-mini", "train-mini", "infer-sd15"], []],
  ["bfloat16", ["train-mini"], []],
  ["float16", ["infer-mini", "window-mini", "infer-sd15", "window-sd15"], []],
  ["float16", ["infer-sd15", "window-sd15"], ["--channels-last"]],
];
for (const [dtype, names, flags] of values["no-bench"] ? [] : plans)
  for (const name of names) {
    const beside = values.peer && (shared as readonly string[]).includes(name);
    const args = [
      ...(beside ? ["compare", name, "--peer", resolve(process.env.INIT_CWD ?? root, values.peer!)] : [name]),
      "--device",
      device,
      "--dtype",
      dtype,
    ];
    const run = program(process.execPath, ["bench/main.ts", ...args, ...flags, "--json"]);
    const row = run.status === 0 ? ([JSON.parse(run.stdout)] as unknown[]).flat()[0] : null;
    say(JSON.stringify(row));
    bench.push({ name, dtype, channelsLast: flags.length > 0, row });
  }

const ok = tests.status === 0 && golden.every((g) => g.failed === 0) && bench.every((b) => b.row !== null);
console.log(JSON.stringify({ gpu: true, cuda: true, torch: info.version, ok, tests: tests.status === 0, golden, bench }, null, 1));
process.exit(ok ? 0 : 1);
