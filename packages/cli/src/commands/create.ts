import { Option, type Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { run } from "../run.ts";

interface CreateFlags {
  clip: string;
  preset: string;
  bodyModel?: string;
  motion?: string;
  conditionStyle?: "surface" | "shaded";
  force?: boolean;
  json?: boolean;
}

export function addCreate(program: Command): void {
  program
    .command("create <name>")
    .description("make an avatar from a clip of one person: find and crop them, fit the body, draw the condition frames")
    .requiredOption("--clip <file>", "the clip (mp4, mov, mkv, webm)")
    .option("--preset <name>", "mini (two CPU cores, no download) or sd15 (the published system)", "mini")
    .option("--body-model <file>", "an SMPL-X .npz instead of the mannequin (its licence: non-commercial research)")
    .option("--motion <file>", "a motion of exactly this clip, with its camera, instead of fitting the body")
    .addOption(
      new Option(
        "--condition-style <how>",
        "how condition frames show the mesh: surface (every place in a colour of its own; default for mini) or shaded (as the original; default for sd15)",
      ).choices(["surface", "shaded"]),
    )
    .option("--force", "replace an avatar of that name")
    .option("--json", "print the result as JSON")
    .action((name: string, o: CreateFlags) =>
      run(o, async (c) => {
        const { AnchorError, avatarPath, createAvatar } = await import("@make-your-anchor/anchor");
        if (o.preset !== "mini" && o.preset !== "sd15")
          throw new AnchorError("OPTION", `--preset ${o.preset}: expected mini or sd15`, { misuse: true });
        const avatar = await createAvatar(avatarPath(name, c.home), {
          clip: c.path(o.clip),
          preset: o.preset,
          bodyModel: o.bodyModel ? c.path(o.bodyModel) : undefined,
          motion: o.motion ? c.path(o.motion) : undefined,
          conditionStyle: o.conditionStyle,
          force: o.force,
          onProgress: c.onProgress,
          signal: c.signal,
        });
        if (c.json) return printJson({ folder: avatar.folder, ...avatar.info });
        const { fit, frames, heldOutFrom } = avatar.info;
        const px = (s: { median: number | null; p95: number | null }) =>
          s.median === null ? "none seen" : `${s.median.toFixed(1)} px (95 %: ${s.p95!.toFixed(1)})`;
        print(`${avatar.folder}: ${frames} frames, the last ${frames - heldOutFrom} held out`);
        print(`fit at 512²: body ${px(fit.body)}, hands ${px(fit.hands)}, face ${px(fit.face)}`);
        print(`next: anchor train ${name} body`);
      }),
    );
}
