import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { run } from "../run.ts";

export function addImport(program: Command): void {
  program
    .command("import <name>")
    .description("take over weights made elsewhere: a person's folder as the original releases them, or a diffusers folder")
    .requiredOption(
      "--weights <folder>",
      "holds body/ and head/, each with unet/ and controlnet/ (one of them is enough), or unet and controlnet of a body",
    )
    .option("--json", "print the result as JSON")
    .action((name: string, o: { weights: string; json?: boolean }) =>
      run(o, async (c) => {
        const { Avatar, avatarPath, importWeights } = await import("@make-your-anchor/anchor");
        const avatar = Avatar.open(avatarPath(name, c.home));
        const result = importWeights(avatar, c.path(o.weights), { onProgress: c.onProgress, signal: c.signal });
        if (c.json) return printJson(result);
        print(`${result.folder}: ${result.parts.join(", ")}`);
        print(`next: anchor animate ${name} --motion FILE --out video.mp4`);
      }),
    );
}
