import type { Command } from "commander";
import { run } from "../run.ts";
import { print, printJson } from "../terminal.ts";

export function addSetup(program: Command): void {
  program
    .command("setup")
    .description("install what the engine needs (libtorch, ffmpeg, a compiler) and build it; seconds when nothing is to do")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Another libtorch than the system's is chosen by variables:
  LIBTORCH=/folder          one that is there (it holds include/ and lib/)
  LIBTORCH_USE_PYTORCH=1    that of the active Python's torch
  LIBTORCH_DOWNLOAD=cpu     fetches one; cu128 and others for NVIDIA GPUs`,
    )
    .action((o: { json?: boolean }) =>
      run(o, async (c) => {
        const { setUp } = await import("@make-your-anchor/anchor/setup");
        await setUp({ signal: c.signal });
        if (c.json) printJson({ ok: true });
        else print('ready ("anchor doctor" says what is in use)');
      }),
    );
}
