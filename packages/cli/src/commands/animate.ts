import { Option, type Command } from "commander";
import { existsSync } from "node:fs";
import { print, printJson, toldFaces } from "../terminal.ts";
import { addComputeFlags, type ComputeFlags } from "../compute-flags.ts";
import { addRenderFlags, renderOptions, type RenderFlags } from "../render-flags.ts";
import { run } from "../run.ts";

interface Options extends ComputeFlags, RenderFlags {
  motion?: string;
  conditions?: string;
  out?: string;
  audio?: string;
  fps?: number;
  frames?: number;
  sampling?: "preset" | "reference";
  sampler?: "ddim" | "ddpm" | "unipc" | "dpmsolver++";
  eta?: number;
  negativePrompt?: string;
  seed?: number;
  faceDetector?: string;
  fresh?: boolean;
  json?: boolean;
}

export function addAnimate(program: Command): void {
  const command = program
    .command("animate <name>")
    .description("let the avatar perform a motion as video; interrupted, the same command goes on")
    .option("--motion <what>", "a motion file (.npz, .npy), another avatar, or a clip")
    .option("--conditions <folder>", "ready condition pictures instead of a motion, in the style of the avatar's own")
    .option("--out <file>", "the video; default: videos/ in the avatar's folder")
    .option("--audio <file>", "sound under the video; default: that of the clip the motion comes from")
    .option("--fps <n>", "frame rate of ready conditions", Number)
    .option("--frames <n>", "only the first so many frames", Number)
    .addOption(
      new Option("--sampling <settings>", "the preset's settings, or the original's").choices(["preset", "reference"]).default("preset"),
    )
    .addOption(new Option("--sampler <name>", "how noise is taken away").choices(["ddim", "ddpm", "unipc", "dpmsolver++"]).default("ddim"))
    .option("--eta <x>", "noise of ddim's steps, 0 to 1", Number);
  addComputeFlags(addRenderFlags(command))
    .option("--negative-prompt <text>", "what guidance leads away from (sd15)")
    .option("--seed <n>", "seed of the noise (one step of the mini preset has none)", Number)
    .option("--face-detector <file>", "with --conditions: SCRFD as ONNX instead of the detector that comes with the tool")
    .option("--fresh", "render every frame anew")
    .option("--json", "print the result as JSON")
    .action((name: string, o: Options) =>
      run(o, async (c) => {
        const { animate, Avatar, avatarPath } = await import("@make-your-anchor/anchor");
        const avatar = Avatar.open(avatarPath(name, c.home));
        let motion = o.motion;
        if (motion !== undefined)
          motion = existsSync(c.path(motion)) || /[./\\]/.test(motion) ? c.path(motion) : avatarPath(motion, c.home);
        const result = await animate(avatar, {
          ...renderOptions(o),
          motion,
          conditions: o.conditions && c.path(o.conditions),
          out: o.out && c.path(o.out),
          audio: o.audio && c.path(o.audio),
          fps: o.fps,
          frames: o.frames,
          sampling: o.sampling,
          sampler: o.sampler,
          eta: o.eta,
          negativePrompt: o.negativePrompt,
          seed: o.seed,
          device: o.device,
          precision: o.precision,
          faceDetector: o.faceDetector && c.path(o.faceDetector),
          fresh: o.fresh,
          onProgress: c.onProgress,
          signal: c.signal,
        });
        if (c.json) return printJson(result);
        print(
          `${result.video}: ${result.frames} frames at ${result.fps} a second${result.audio ? ", with sound" : ""}, in ${result.seconds.toFixed(0)} s${result.reused ? ` (${result.reused} frames were finished before)` : ""}`,
        );
        if (result.faces) print(`${toldFaces(result.faces, result.faceStrength)} (found and bridged ones were painted)`);
        for (const note of result.notes) print(`note: ${note}`);
      }),
    );
}
