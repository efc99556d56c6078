/** The engine on CUDA: its tests, the golden cases by dtype, the benchmark. Prints one JSON; exit code 1 when anything fails. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { engineInfo } from "@make-your-anchor/torch";
import { arithmeticOf } from "../golden/case.ts";
import { runGolden } from "../golden/run.ts";

const info = engineInfo();
if (!info.cuda) {
  console.log(
    JSON.stringify({ gpu: true, cuda: false, ok: false, note: `libtorch ${info.version} sees no CUDA device: was it built with CUDA?` }),
  );
  process.exit(1);
}
const root = fileURLToPath(new URL("..", import.meta.url));
const program = (name: string, args: string[]) => {
  console.error(`gpu-check: ${[name, ...args].join(" ")}`);
  return spawnSync(name, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 28 });
};

const tests = program("vitest", ["run", "packages/torch", "test/golden.test.ts", "test/diffusion.test.ts"]);
const golden = [];
for (const dtype of ["float32", "float16", "bfloat16"] as const) {
  console.error(`gpu-check: golden cases on cuda:0, ${dtype}`);
  const { passed, failed, unsupported, cases } = await runGolden(`${root}/test/golden`, arithmeticOf("cuda:0", dtype));
  const worst = cases.flatMap((c) =>
    c.tensors.filter((t) => t.status === "failed").map((t) => ({ case: c.case, tensor: t.tensor, worst: t.worst, ratio: t.ratio })),
  );
  golden.push({ dtype, passed, failed, unsupported, worst, errors: cases.flatMap((c) => (c.error ? [`${c.case}: ${c.error}`] : [])) });
}
const bench = [];
for (const [dtype, names, flags] of [
  ["float32", ["infer-mini", "window-mini", "train-mini", "infer-sd15"], []],
  ["bfloat16", ["train-mini"], []],
  ["float16", ["infer-mini", "window-mini", "infer-sd15", "window-sd15"], []],
  ["float16", ["infer-sd15", "window-sd15"], ["--channels-last"]],
] as const) {
  const run = program(process.execPath, ["bench/main.ts", ...names, "--device", "cuda:0", "--dtype", dtype, ...flags, "--json"]);
  bench.push({ dtype, channelsLast: flags.length > 0, rows: run.status === 0 ? ([JSON.parse(run.stdout)].flat() as unknown[]) : null });
}
const ok = tests.status === 0 && golden.every((g) => g.failed === 0) && bench.every((b) => b.rows !== null);
if (tests.status !== 0) console.error(tests.stdout.slice(-4000));
console.log(JSON.stringify({ gpu: true, cuda: true, torch: info.version, ok, tests: tests.status === 0, golden, bench }, null, 1));
process.exit(ok ? 0 : 1);
