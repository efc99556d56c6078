/**
 * What the base is worth: one clip, trained from the base and from nothing for some lengths of time, measured on its held-out part.
 *
 *   npm run bench -- base-curve --clip FILE [--minutes 5,10,20] [--from base,nothing] [--out bench-base] [--svg FILE] [--json]
 *
 * Every point is a training of its own, with a schedule of its own length. What is done stays in --out: the same command goes on.
 */
import { cpSync, existsSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Avatar, createAvatar, evaluateAvatar, trainBody, type Evaluation } from "@make-your-anchor/anchor";
import { readJson, writeFileAtomic, writeJson } from "../packages/anchor/src/files.ts";
import { progressLine } from "../packages/cli/src/terminal.ts";
import { lineChart } from "./chart.ts";

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    clip: { type: "string" },
    minutes: { type: "string", default: "5,10,20" },
    from: { type: "string", default: "base,nothing" },
    out: { type: "string", default: "bench-base" },
    svg: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
if (!values.clip) {
  console.error("bench base-curve: --clip FILE is needed");
  process.exit(2);
}
const caller = process.env.ANCHOR_CALLER_DIR ?? process.cwd();
const out = resolve(caller, values.out);
const progress = progressLine();
const onProgress = progress.show;

interface Point {
  from: string;
  minutes: number;
  steps: number;
  evaluation: Pick<Evaluation, "generated" | "baselines" | "vae">;
}

const plain = join(out, "avatar");
if (!Avatar.exists(plain)) await createAvatar(plain, { clip: resolve(caller, values.clip), onProgress });
const points: Point[] = [];
for (const from of values.from.split(",")) {
  for (const minutes of values.minutes.split(",").map(Number)) {
    const name = `${from.replaceAll(/[^\w.-]/g, "_")}-${minutes}`;
    const done = join(out, `${name}.json`);
    if (!existsSync(done)) {
      const folder = join(out, name);
      rmSync(folder, { recursive: true, force: true });
      cpSync(plain, folder, { recursive: true });
      const avatar = Avatar.open(folder);
      const start = ["base", "nothing"].includes(from) ? from : resolve(caller, from);
      const { steps } = await trainBody(avatar, { minutes, from: start, onProgress });
      const { generated, baselines, vae } = await evaluateAvatar(avatar, { onProgress });
      writeJson(done, { from, minutes, steps: steps.body, evaluation: { generated, baselines, vae } } satisfies Point);
    }
    points.push(readJson(done) as Point);
  }
}
progress.end();

if (values.json) console.log(JSON.stringify(points));
else {
  console.log("| from | minutes | steps | moving PSNR | moving SSIM | sharpness | VAE alone, moving | full |");
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const { from, minutes, steps, evaluation: e } of points) {
    const { moving } = e.generated;
    console.log(
      `| ${from} | ${minutes} | ${steps} | ${moving.psnr.toFixed(2)} | ${moving.ssim.toFixed(3)} | ${moving.sharpness.toFixed(2)} | ${e.vae.moving.psnr.toFixed(2)} | ${e.vae.full.psnr.toFixed(2)} |`,
    );
  }
}
if (values.svg) {
  const { nearestFrame, meanFrame } = points[0].evaluation.baselines;
  const svg = lineChart({
    title: "Held-out frames, moving region",
    x: "minutes of training, two cores",
    y: "PSNR, dB",
    series: values.from.split(",").map((from) => ({
      name: `from ${from}`,
      points: points.filter((p) => p.from === from).map((p) => [p.minutes, p.evaluation.generated.moving.psnr] as const),
    })),
    levels: [
      { name: "nearest training frame (oracle)", y: nearestFrame.moving.psnr },
      { name: "mean training frame", y: meanFrame.moving.psnr },
    ],
  });
  writeFileAtomic(resolve(caller, values.svg), svg);
}
