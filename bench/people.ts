/**
 * How well a few minutes of training from the base bind to one person: made-up people whom stage 1 never saw.
 *
 *   npm run bench -- people [--people 8] [--minutes 5] [--seconds 10] [--from base|nothing|DIR] [--out bench-people] [--json]
 *
 * Each is filmed, becomes an avatar by its own motion (nothing is fitted), is trained, and measured on the last fifth of the clip. What is done stays
 * in --out: the same command goes on.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Avatar, createAvatar, evaluateAvatar, trainBody, type Evaluation } from "@make-your-anchor/anchor";
import { filmClip } from "@make-your-anchor/anchor/people";
import { readJson, writeJson } from "../packages/anchor/src/files.ts";
import { progressLine } from "../packages/cli/src/terminal.ts";

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    people: { type: "string", default: "8" },
    minutes: { type: "string", default: "5" },
    seconds: { type: "string", default: "10" },
    from: { type: "string", default: "base" },
    out: { type: "string", default: "bench-people" },
    json: { type: "boolean", default: false },
  },
});
const caller = process.env.ANCHOR_CALLER_DIR ?? process.cwd();
const out = join(caller, values.out);
const [count, minutes, seconds] = [values.people, values.minutes, values.seconds].map(Number);
const progress = progressLine();
const onProgress = progress.show;

interface Row {
  person: number;
  from: string;
  minutes: number;
  generated: Evaluation["generated"];
  nearestFrame: Evaluation["baselines"]["nearestFrame"];
  vae: Evaluation["vae"];
}

const rows: Row[] = [];
for (let person = 0; person < count; person++) {
  const folder = join(out, `person-${person}`);
  const done = join(folder, `result-${values.from.replaceAll(/[^\w.-]/g, "_")}-${minutes}.json`);
  if (!existsSync(done)) {
    const { clip, motion } = await filmClip(folder, { person, seconds, onProgress });
    const avatarFolder = join(folder, "avatar");
    if (!Avatar.exists(avatarFolder)) await createAvatar(avatarFolder, { clip, motion, onProgress });
    const avatar = Avatar.open(avatarFolder);
    const from = ["base", "nothing"].includes(values.from) ? values.from : join(caller, values.from);
    await trainBody(avatar, { minutes, from, onProgress, fresh: true });
    const { generated, baselines, vae } = await evaluateAvatar(avatar, { onProgress });
    writeJson(done, { person, from: values.from, minutes, generated, nearestFrame: baselines.nearestFrame, vae } satisfies Row);
  }
  rows.push(readJson(done) as Row);
}
progress.end();

const mean = (of: (r: Row) => number) => rows.reduce((n, r) => n + of(r), 0) / rows.length;
const columns: [string, (r: Row) => number, number][] = [
  ["PSNR", (r) => r.generated.full.psnr, 2],
  ["SSIM", (r) => r.generated.full.ssim, 3],
  ["moving PSNR", (r) => r.generated.moving.psnr, 2],
  ["moving SSIM", (r) => r.generated.moving.ssim, 3],
  ["sharpness", (r) => r.generated.moving.sharpness, 2],
  ["nearest frame", (r) => r.nearestFrame.moving.psnr, 2],
  ["VAE alone", (r) => r.vae.moving.psnr, 2],
];
if (values.json) {
  const means = Object.fromEntries(columns.map(([name, of]) => [name, mean(of)]));
  console.log(JSON.stringify({ people: rows, mean: means }));
} else {
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  console.log(line(["person", ...columns.map(([name]) => name)]));
  console.log(line(["---", ...columns.map(() => "---")]));
  for (const r of rows) console.log(line([String(r.person), ...columns.map(([, of, digits]) => of(r).toFixed(digits))]));
  console.log(line(["mean", ...columns.map(([, of, digits]) => mean(of).toFixed(digits))]));
}
