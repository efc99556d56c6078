import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { run } from "../run.ts";

export function addTrain(program: Command): void {
  addComputeFlags(program.command("train <name> [part]"))
    .description("train the avatar's body model, or (head) the model that paints its face; Ctrl-C is safe, the same command goes on")
    .option("--minutes <m>", "about how long", Number)
    .option("--steps <n>", "how many steps instead (the mini preset's VAE gets a third as many)", Number)
    .option("--face-parser <file>", "head: weights of a face-parsing BiSeNet (79999_iter.pth) for the masks instead of the landmarks")
    .option("--fresh", "start over instead of going on with an interrupted run")
    .option("--json", "print the result as JSON")
    .action(
      (
        name: string,
        part: string | undefined,
        o: { minutes?: number; steps?: number; faceParser?: string; fresh?: boolean; json?: boolean } & ComputeFlags,
      ) =>
        run(o, async (c) => {
          const { AnchorError, Avatar, avatarPath, trainBody, trainHead } = await import("@make-your-anchor/anchor");
          if (part !== undefined && part !== "body" && part !== "head")
            throw new AnchorError("OPTION", `train ${name} ${part}: expected "body" or "head"`, { misuse: true });
          const avatar = Avatar.open(avatarPath(name, c.home));
          const options = {
            minutes: o.minutes,
            steps: o.steps,
            fresh: o.fresh,
            device: o.device,
            precision: o.precision,
            onProgress: c.onProgress,
            signal: c.signal,
          };
          const took = (what: "body" | "head", steps: number, result: { seconds: number; run: string }) =>
            print(
              `${avatar.path(what)}: trained ${steps} steps in ${(result.seconds / 60).toFixed(1)} min (curve: ${result.run}/metrics.jsonl)`,
            );
          if (part === "head") {
            const result = await trainHead(avatar, { ...options, faceParser: o.faceParser && c.path(o.faceParser) });
            if (c.json) return printJson(result);
            took("head", result.steps.head, result);
            print(`next: anchor animate ${name} --motion FILE --out video.mp4 paints the face from now on`);
            return;
          }
          const result = await trainBody(avatar, options);
          if (c.json) return printJson(result);
          took("body", result.steps.body, result);
          print(`next: anchor train ${name} head, anchor evaluate ${name}, or anchor animate ${name} --motion FILE --out video.mp4`);
        }),
    );
}
