/**
 * Makes the base that ships of one that `anchor pretrain` trained: float16, without the runs.
 *
 *   node scripts/pack-base.ts DIR
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { loadSafetensors, noGrad, saveSafetensors } from "@make-your-anchor/torch";
import { baseParts, shippedBase } from "../packages/anchor/src/base.ts";

const from = process.argv[2];
if (!from) {
  console.error("pack-base: name the folder that anchor pretrain wrote");
  process.exit(2);
}
let bytes = 0;
for (const part of baseParts) {
  const [source, target] = [join(resolve(from), part), join(shippedBase, part)];
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  if (part.endsWith("scheduler")) {
    copyFileSync(join(source, "scheduler_config.json"), join(target, "scheduler_config.json"));
    continue;
  }
  copyFileSync(join(source, "config.json"), join(target, "config.json"));
  const name = part.endsWith("image_encoder") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
  const weights = loadSafetensors(join(source, name));
  const halves = new Map([...weights].map(([k, t]) => [k, noGrad(() => t.to("float16"))]));
  saveSafetensors(join(target, name), halves);
  for (const t of [...weights.values(), ...halves.values()]) t.dispose();
  bytes += readFileSync(join(target, name)).length;
}
// How the weights came about, without the folders of the machine it happened on.
const path = join(shippedBase, "training.json");
const before = JSON.parse(readFileSync(path, "utf8"));
const runs = Object.fromEntries(
  ["vae", "decoder", "denoiser"].flatMap((part) => {
    const config = join(from, "runs", part, "config.json");
    // What was not trained anew is the base's that ships; a decoder for another VAE would be none.
    const kept = before[part] && (part !== "decoder" || !existsSync(join(from, "runs", "vae")));
    if (!existsSync(config)) return kept ? [[part, before[part]]] : [];
    const run = JSON.parse(readFileSync(config, "utf8"));
    const steps = run.plan[part === "denoiser" ? "body" : part].at(-1).total as number;
    const { minutes, seed, precision, recipe } = run;
    return [
      [
        part,
        {
          steps,
          minutes,
          seed,
          from: run.from === "nothing" ? "nothing" : "an earlier base",
          ...(part === "denoiser" ? { precision, recipe } : {}),
        },
      ],
    ];
  }),
);
writeFileSync(path, `${JSON.stringify(runs, null, 2)}\n`);
console.log(`${shippedBase}: ${(bytes / 1e6).toFixed(1)} MB`);
