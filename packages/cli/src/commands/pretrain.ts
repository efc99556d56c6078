import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { run } from "../run.ts";

export function addPretrain(program: Command): void {
  addComputeFlags(program.command("pretrain <part>"))
    .description("train the mini preset's vae or body on made-up people (stage 1); Ctrl-C is safe, the same command goes on")
    .option("--out <folder>", "where the models go", "base")
    .option("--minutes <m>", "about how long (default 60)", Number)
    .option("--steps <n>", "how many steps instead", Number)
    .option("--workers <n>", "threads that draw people (default 1)", Number)
    .option("--fresh", "start over instead of going on")
    .option("--json", "print the result as JSON")
    .action(
      (
        part: string,
        o: { out: string; minutes?: number; steps?: number; workers?: number; fresh?: boolean; json?: boolean } & ComputeFlags,
      ) =>
        run(o, async (c) => {
          const { AnchorError, pretrain } = await import("@make-your-anchor/anchor");
          if (part !== "vae" && part !== "body")
            throw new AnchorError("OPTION", `pretrain ${part}: expected "vae" or "body"`, { misuse: true });
          if (o.workers !== undefined && !(Number.isInteger(o.workers) && o.workers >= 1 && o.workers <= 64))
            throw new AnchorError("OPTION", `--workers: expected a whole number from 1 to 64, got ${o.workers}`, { misuse: true });
          const { minutes, steps, workers, fresh, device, precision } = o;
          const result = await pretrain(c.path(o.out), {
            part,
            minutes,
            steps,
            workers,
            fresh,
            device,
            precision,
            onProgress: c.onProgress,
            signal: c.signal,
          });
          if (c.json) return printJson(result);
          print(`${result.folder}/${part}: pre-trained ${result.steps} steps in ${(result.seconds / 60).toFixed(1)} min`);
        }),
    );
}
