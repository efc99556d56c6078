import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { addRecipeFlags, recipeFrom, type RecipeFlags } from "../recipe-flags.ts";
import { run } from "../run.ts";

export function addPretrain(program: Command): void {
  addRecipeFlags(addComputeFlags(program.command("pretrain <part>")))
    .description(
      "stage 1, on many people: the mini preset's base (vae, then denoiser: body and head in one; decoder: the vae's, once more, by itself), on made-up people or --data; at full size body or head, on --data. Ctrl-C is safe, the same command goes on",
    )
    .option("--out <folder>", "where the models go", "base")
    .option("--minutes <m>", "about how long (default 60)", Number)
    .option("--steps <n>", "how many steps instead", Number)
    .option("--from <folder>", '"base" (the one that ships) or a folder, whose weights it starts from')
    .option(
      "--data <path...>",
      "train on these instead: folders of avatars, or lists in the original's layout (body_train.json, head_train.json)",
    )
    .option("--first-person <n>", "the first of the made-up people, from 0; new ones for a base that is trained on", Number)
    .option("--workers <n>", "threads that draw people (default 1)", Number)
    .option("--skip-bad", "body, head: leave out pictures that cannot be read, and count them, instead of stopping")
    .option("--fresh", "start over instead of going on")
    .option("--json", "print the result as JSON")
    .action(
      (
        part: string,
        o: {
          out: string;
          minutes?: number;
          steps?: number;
          from?: string;
          data?: string[];
          firstPerson?: number;
          workers?: number;
          fresh?: boolean;
          json?: boolean;
          skipBad?: boolean;
        } & ComputeFlags &
          RecipeFlags,
      ) =>
        run(o, async (c) => {
          const { AnchorError, pretrain, pretrainFull } = await import("@make-your-anchor/anchor");
          const data = o.data?.map((d) => c.path(d));
          const from = o.from === undefined || o.from === "base" ? o.from : c.path(o.from);
          const shared = {
            minutes: o.minutes,
            steps: o.steps,
            from,
            fresh: o.fresh,
            device: o.device,
            precision: o.precision,
            onProgress: c.onProgress,
            signal: c.signal,
          };
          const finish = (result: { folder: string; steps: number; seconds: number }) => {
            if (c.json) return printJson(result);
            print(
              `${result.folder}/${part === "decoder" ? "vae" : part}: pre-trained ${result.steps} steps in ${(result.seconds / 60).toFixed(1)} min`,
            );
          };
          const recipe = recipeFrom(o);
          if (part === "body" || part === "head") {
            if (!data) throw new AnchorError("OPTION", `pretrain ${part}: --data is needed: many people's pictures`, { misuse: true });
            const result = await pretrainFull(c.path(o.out), { ...shared, ...recipe, part, data, skipBad: o.skipBad });
            for (const reason of result.skipped.slice(0, 5)) print(`left out: ${reason}`);
            return finish(result);
          }
          if (part !== "vae" && part !== "decoder" && part !== "denoiser")
            throw new AnchorError("OPTION", `pretrain ${part}: expected vae, decoder or denoiser (mini), body or head (full size)`, {
              misuse: true,
            });
          const given = Object.keys(recipe).filter((k) => part !== "denoiser" || !["batch", "lr", "noiseless"].includes(k));
          if (given.length > 0)
            throw new AnchorError(
              "OPTION",
              `pretrain ${part}: ${given.join(", ")}: the mini base has a recipe of its own (of the denoiser --batch, --lr and --noiseless may change)`,
              {
                misuse: true,
              },
            );
          const { batch, lr, noiseless } = recipe;
          if (o.workers !== undefined && !(Number.isInteger(o.workers) && o.workers >= 1 && o.workers <= 64))
            throw new AnchorError("OPTION", `--workers: expected a whole number from 1 to 64, got ${o.workers}`, { misuse: true });
          if (o.firstPerson !== undefined && !(Number.isInteger(o.firstPerson) && o.firstPerson >= 0))
            throw new AnchorError("OPTION", `--first-person: expected a whole number from 0, got ${o.firstPerson}`, { misuse: true });
          finish(
            await pretrain(c.path(o.out), { ...shared, batch, lr, noiseless, part, data, firstPerson: o.firstPerson, workers: o.workers }),
          );
        }),
    );
}
