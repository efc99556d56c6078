import type { Command } from "commander";
import type { TrainedPart } from "@make-your-anchor/anchor";
import { print, printJson } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { addRecipeFlags, recipeFrom, type RecipeFlags } from "../recipe-flags.ts";
import { run } from "../run.ts";

export function addTrain(program: Command): void {
  addRecipeFlags(addComputeFlags(program.command("train <name> [part]")))
    .description("train the avatar's body model, or (head) the model that paints its face; Ctrl-C is safe, the same command goes on")
    .option("--minutes <m>", "about how long", Number)
    .option("--steps <n>", "how many steps instead (the mini preset's VAE gets a third as many before, its decoder after)", Number)
    .option("--from <what>", 'what the weights start from: "base" (mini, default), "nothing" (mini), or a folder of pre-trained weights')
    .option("--face-parser <file>", "head: weights of a face-parsing BiSeNet (79999_iter.pth) for the masks instead of the landmarks")
    .option("--validate <n>", "how many times the result is tried on held-out poses, the best kept (default 4; 0 never)", Number)
    .option("--adapter <kind>", '"lora": train and keep small adapters of the base instead of all weights')
    .option("--rank <r>", "of the adapters (default 16)", Number)
    .option("--seed <n>", "of everything random in the training (default 5, of a head 6)", Number)
    .option(
      "--nproc <n>",
      "processes that share each batch, on this machine, with a GPU each where there are any (or RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)",
      Number,
    )
    .option("--skip-bad", "leave out pictures that cannot be read, and count them, instead of stopping")
    .option("--fresh", "start over instead of going on with an interrupted run")
    .option("--json", "print the result as JSON")
    .action(
      (
        name: string,
        part: string | undefined,
        o: {
          minutes?: number;
          steps?: number;
          from?: string;
          faceParser?: string;
          fresh?: boolean;
          json?: boolean;
          validate?: number;
          skipBad?: boolean;
          adapter?: string;
          rank?: number;
          seed?: number;
          nproc?: number;
        } & ComputeFlags &
          RecipeFlags,
      ) =>
        run(o, async (c) => {
          const { AnchorError, Avatar, avatarPath, trainBody, trainHead, unlikeBase } = await import("@make-your-anchor/anchor");
          if (part !== undefined && part !== "body" && part !== "head")
            throw new AnchorError("OPTION", `train ${name} ${part}: expected "body" or "head"`, { misuse: true });
          const avatar = Avatar.open(avatarPath(name, c.home));
          const { joinProcesses } = await import("../processes.ts");
          const joined = await joinProcesses(o.nproc, o.device);
          const options = {
            group: joined.group,
            minutes: o.minutes,
            steps: o.steps,
            from: o.from === undefined || ["base", "nothing"].includes(o.from) ? o.from : c.path(o.from),
            validate: o.validate,
            skipBad: o.skipBad,
            adapter: o.adapter as "lora" | undefined,
            rank: o.rank,
            seed: o.seed,
            ...recipeFrom(o),
            fresh: o.fresh,
            device: joined.device ?? o.device,
            precision: o.precision,
            onProgress: joined.main ? c.onProgress : undefined,
            signal: c.signal,
          };
          const unlike = unlikeBase(avatar.info, options.from);
          if (unlike && joined.main) console.error(`${name}: ${unlike}`);
          /** Trains in all processes; the first reports. */
          const together = async <T>(work: () => Promise<T>): Promise<T> => {
            let failed = true;
            try {
              const result = await work();
              failed = false;
              return result;
            } finally {
              await joined.close(failed);
            }
          };
          const took = (what: "body" | "head", steps: number, result: TrainedPart) => {
            for (const reason of result.skipped.slice(0, 5)) print(`left out: ${reason}`);
            if (result.skipped.length > 5) print(`left out: ${result.skipped.length} pictures in all`);
            print(
              `${avatar.path(what)}: trained ${steps} steps in ${(result.seconds / 60).toFixed(1)} min (curve: ${result.run}/metrics.jsonl)`,
            );
            const { best } = result;
            if (best)
              print(
                `kept: the state after step ${best.step}, the best of its trials on held-out poses (${best.psnr.toFixed(1)} dB, SSIM ${best.ssim.toFixed(3)})` +
                  // Half of the trials or more came later.
                  (best.step <= steps / 2 ? "; no later one was better, so more minutes would hardly help" : ""),
              );
          };
          if (part === "head") {
            const result = await together(() => trainHead(avatar, { ...options, faceParser: o.faceParser && c.path(o.faceParser) }));
            if (!joined.main) return;
            if (c.json) return printJson(result);
            took("head", result.steps.head, result);
            print(`next: anchor animate ${name} --motion FILE --out video.mp4 paints the face from now on`);
            return;
          }
          const result = await together(() => trainBody(avatar, options));
          if (!joined.main) return;
          if (c.json) return printJson(result);
          took("body", result.steps.body, result);
          print(`next: anchor train ${name} head, anchor evaluate ${name}, or anchor animate ${name} --motion FILE --out video.mp4`);
        }),
    );
}
