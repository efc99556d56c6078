/**
 * Compares the library with numbers computed by the original's code.
 *
 *   npm run golden -- DIR [--device cuda] [--dtype float16|bfloat16] [--json]
 *
 * DIR holds cases: folders with a case.json, tensors and small weights. Exit code 0: no case failed; 1: one did; 2: misuse.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { engineInfo } from "@make-your-anchor/torch";
import { arithmeticOf } from "./case.ts";
import { runGolden, type CaseResult } from "./run.ts";

const usage = "usage: npm run golden -- DIR [--device cpu|cuda|cuda:N] [--dtype float32|float16|bfloat16] [--json]";
const misuse = (message: string): never => {
  console.error(`golden: ${message}\n${usage}`);
  process.exit(2);
};

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        device: { type: "string", default: "cpu" },
        dtype: { type: "string", default: "float32" },
      },
    });
  } catch (error) {
    return misuse((error as Error).message);
  }
}
const { values, positionals } = parse();
if (positionals.length !== 1) misuse(`expected one folder of cases, got ${positionals.length}`);
const root = resolve(process.env.ANCHOR_CALLER_DIR ?? process.cwd(), positionals[0]);
if (!existsSync(root)) misuse(`${root}: no such folder`);
if (!/^(cpu|cuda(:\d+)?)$/.test(values.device)) misuse(`--device: expected cpu or cuda, got ${values.device}`);
const device = values.device === "cuda" ? "cuda:0" : values.device;
if (device !== "cpu" && !engineInfo().cuda) misuse(`--device ${values.device}: libtorch ${engineInfo().version} sees no CUDA device`);

function show(c: CaseResult): void {
  const worst = c.tensors.reduce((r, t) => Math.max(r, t.ratio), 0);
  console.log(
    `${c.status.padEnd(11)} ${c.case}${c.tensors.length > 0 ? `: ${c.tensors.length} tensors, worst ${worst.toPrecision(2)} of its tolerance` : ""}`,
  );
  if (c.error) console.log(`    ${c.error}`);
  for (const t of c.tensors) {
    const tolerance = Object.entries(t.tolerance)
      .filter(([, v]) => v !== undefined)
      .map(([k, v]) => `${k} ${v}`)
      .join(", ");
    console.log(
      `    ${t.status === "passed" ? " " : "!"} ${t.tensor}: ${t.worst.toPrecision(3)} (${t.ratio.toPrecision(2)} of ${tolerance})`,
    );
    if (t.message) console.log(`        ${t.message}`);
  }
}

const dtype = (["float32", "float16", "bfloat16"] as const).find((d) => d === values.dtype) ?? misuse(`--dtype: got ${values.dtype}`);
const report = await runGolden(root, arithmeticOf(device, dtype), values.json ? undefined : show);
if (report.cases.length === 0) misuse(`${root}: no cases there (folders with a case.json)`);
if (values.json) console.log(JSON.stringify(report, null, 1));
else console.log(`${report.passed} passed, ${report.failed} failed, ${report.unsupported} unsupported`);
process.exit(report.failed === 0 ? 0 : 1);
