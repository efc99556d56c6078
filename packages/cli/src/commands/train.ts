import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { run } from "../run.ts";

export function addTrain(program: Command): void {
  addComputeFlags(program.command("train <name> [part]"))
    .description("train the avatar's body model; Ctrl-C is safe, the same command goes on")
    .option("--minutes <m>", "about how long", Number)
    .option("--steps <n>", "how many steps instead (the mini preset's VAE gets a third as many)", Number)
    .option("--fresh", "start over instead of going on with an interrupted run")
    .option("--json", "print the result as JSON")
    .action(
      (name: string, part: string | undefined, o: { minutes?: number; steps?: number; fresh?: boolean; json?: boolean } & ComputeFlags) =>
        run(o, async (c) => {
          const { AnchorError, Avatar, avatarPath, trainBody } = await import("@make-your-anchor/anchor");
          if (part !== undefined && part !== "body")
            throw new AnchorError("OPTION", `train ${name} ${part}: expected "body"`, { misuse: true });
          const avatar = Avatar.open(avatarPath(name, c.home));
          const result = await trainBody(avatar, {
            minutes: o.minutes,
            steps: o.steps,
            fresh: o.fresh,
            device: o.device,
            precision: o.precision,
            onProgress: c.onProgress,
            signal: c.signal,
          });
          if (c.json) return printJson(result);
          print(
            `${avatar.path("body")}: trained ${result.steps.body} steps in ${(result.seconds / 60).toFixed(1)} min (curve: ${result.run}/metrics.jsonl)`,
          );
          print(`next: anchor evaluate ${name}, or anchor animate ${name} --motion FILE --out video.mp4`);
        }),
    );
}
