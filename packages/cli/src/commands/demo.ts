import { resolve } from "node:path";
import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { run } from "../run.ts";

export function addDemo(program: Command): void {
  program
    .command("demo")
    .description("the embedded example, start to finish: film a presenter, learn them, let them give a new speech")
    .option("--out <folder>", "where everything goes", "demo")
    .option("--minutes <m>", "training time, body and head together (default 7)", Number)
    .option("--steps <n>", "training steps of each instead", Number)
    .option("--no-face", "leave the head model out")
    .option("--seconds <s>", "length of the new speech", Number)
    .option("--clip-seconds <s>", "length of the clip that is learnt from", Number)
    .option("--json", "print the result as JSON")
    .action((o: { out: string; minutes?: number; steps?: number; face: boolean; seconds?: number; clipSeconds?: number; json?: boolean }) =>
      run(o, async (c) => {
        const { runDemo } = await import("@make-your-anchor/anchor/demo");
        const result = await runDemo(resolve(c.home, o.out), {
          minutes: o.minutes,
          steps: o.steps,
          face: o.face,
          seconds: o.seconds,
          clipSeconds: o.clipSeconds,
          onProgress: c.onProgress,
          signal: c.signal,
        });
        if (c.json) return printJson(result);
        print(`the clip it learnt from:   ${result.clip}`);
        print(`the new speech:            ${result.video}`);
        print(`contact sheet:             ${result.contactSheet}   (condition | generated | truth)`);
        print(
          `against the truth:         ${result.unseen.psnr.toFixed(1)} dB, SSIM ${result.unseen.ssim.toFixed(3)}, sharpness ${result.unseen.sharpness.toFixed(2)}`,
        );
        print(`time:                      ${(result.seconds / 60).toFixed(1)} min`);
      }),
    );
}
