import type { Command } from "commander";
import { print, printJson, toldFaces } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { addRenderFlags, renderOptions, type RenderFlags } from "../render-flags.ts";
import { run } from "../run.ts";

export function addEvaluate(program: Command): void {
  addRenderFlags(addComputeFlags(program.command("evaluate <name>")))
    .description("measure the avatar on the part of its clip it was never trained on, beside two baselines")
    .option("--json", "print the result as JSON")
    .action((name: string, o: RenderFlags & ComputeFlags & { json?: boolean }) =>
      run(o, async (c) => {
        const { Avatar, avatarPath, evaluateAvatar } = await import("@make-your-anchor/anchor");
        const avatar = Avatar.open(avatarPath(name, c.home));
        const e = await evaluateAvatar(avatar, {
          ...renderOptions(o),
          device: o.device,
          precision: o.precision,
          onProgress: c.onProgress,
          signal: c.signal,
        });
        if (c.json) return printJson(e);
        const row = (what: string, s: { psnr: number; ssim: number; sharpness: number }) =>
          print(`  ${what.padEnd(14)} ${s.psnr.toFixed(2).padStart(6)} dB  SSIM ${s.ssim.toFixed(3)}  sharpness ${s.sharpness.toFixed(2)}`);
        print(
          `${e.frames.heldOut} held-out frames (${e.frames.train} trained on); moving region: ${(100 * e.movingShare).toFixed(0)} % of the picture`,
        );
        for (const region of ["moving", "full"] as const) {
          print(region === "moving" ? "moving region" : "whole frame");
          row("generated", e.generated[region]);
          row("nearest frame", e.baselines.nearestFrame[region]);
          row("mean frame", e.baselines.meanFrame[region]);
          row("VAE alone", e.vae[region]);
        }
        const face = (what: string, f: typeof e.generated.face) => {
          if (!f) return;
          row(what, f);
          print(
            `  ${"".padEnd(14)} identity ${f.identity === null ? "not seen" : f.identity.toFixed(3)}  flicker ${f.flicker.toFixed(2)} grey levels`,
          );
        };
        print("inside the face's box");
        face("generated", e.generated.face);
        if (e.bodyOnly) face("body alone", e.bodyOnly.face);
        if (e.faces) print(`  ${toldFaces(e.faces, e.faceStrength)}`);
        if (e.faceStrength === 0 && o.faceStrength === undefined)
          print("  the painted face is not shown: it is no nearer to the truth (--face-strength 1 shows it)");
        print(`contact sheet (mesh over clip | condition | generated | truth): ${e.contactSheet}`);
      }),
    );
}
