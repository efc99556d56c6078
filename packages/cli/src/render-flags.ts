/** What becomes of faces, and how large windows are: the same for every command that renders. */
import { Option, type Command } from "commander";
import type { FaceOptions, SamplingOptions } from "@make-your-anchor/anchor";

export interface RenderFlags {
  steps?: number;
  guidance?: number;
  window?: number;
  overlap?: number;
  face: boolean;
  facePerFrame?: boolean;
  faceStrength?: number;
  facePaste?: FaceOptions["facePaste"];
}

export const addRenderFlags = (command: Command): Command =>
  command
    .option("--steps <n>", "denoising steps", Number)
    .option("--guidance <g>", "guidance scale of the body's sampling (1: none)", Number)
    .option("--window <n>", "frames a window", Number)
    .option("--overlap <n>", "frames that windows share", Number)
    .option("--no-face", "leave the face as the body model renders it, though a head model is trained")
    .option("--face-per-frame", "paint each frame's face by itself, as the original does")
    .option("--face-strength <s>", "how much of the painted face is shown, 0 to 1; default what held-out frames show to be best", Number)
    .addOption(
      new Option("--face-paste <how>", "seamless, or the whole crop on a soft plate as the original does").choices([
        "seamless",
        "reference",
      ]),
    );

export const renderOptions = (
  o: RenderFlags,
): FaceOptions & Pick<SamplingOptions, "steps" | "guidanceScale" | "windowSize" | "windowOverlap"> => ({
  steps: o.steps,
  guidanceScale: o.guidance,
  windowSize: o.window,
  windowOverlap: o.overlap,
  face: o.face,
  faceTemporal: o.facePerFrame ? "perFrame" : "windows",
  faceStrength: o.faceStrength,
  facePaste: o.facePaste,
});
