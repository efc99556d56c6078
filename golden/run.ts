/** Finds fixture cases, runs each through the public library, and says how far off every tensor is. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { allowTf32, scope, type DType } from "@make-your-anchor/torch";
import { rotations, smplxForward } from "./cases/body.ts";
import { bisenet, faceAlign, faceMask, scrfdDecode } from "./cases/face.ts";
import { imageOps, stateDictKeys } from "./cases/files.ts";
import { clipText, clipVision, controlnet, unet2d, unet3d, vae } from "./cases/networks.ts";
import { bodyPipeline, headPipeline } from "./cases/pipelines.ts";
import { schedulers, windows } from "./cases/schedulers.ts";
import { training } from "./cases/training.ts";
import { arithmeticOf, cpuArithmetic, GoldenCase, type Arithmetic, type TensorResult } from "./case.ts";

interface Runner {
  run: (g: GoldenCase) => void | Promise<void>;
  /** Owns what it makes; the others' tensors end with a scope around them. */
  owns?: boolean;
  /** Runs on the CPU in float32 whatever is asked for: it has no device. */
  cpuOnly?: boolean;
  /** Runs in float32 whatever is asked for: its many steps would only add up a half's errors. */
  singleOnly?: boolean;
}

const runners: Record<string, Runner> = {
  unet2d: { run: unet2d },
  unet2d_inpaint: { run: unet2d },
  controlnet: { run: controlnet },
  unet3d: { run: unet3d },
  vae: { run: vae },
  clip_vision: { run: clipVision, owns: true },
  clip_text: { run: clipText },
  schedulers: { run: schedulers, singleOnly: true },
  windows: { run: windows, cpuOnly: true },
  body_pipeline: { run: bodyPipeline, owns: true, singleOnly: true },
  head_pipeline: { run: headPipeline, owns: true, singleOnly: true },
  train_body: { run: training, singleOnly: true },
  train_head: { run: training, singleOnly: true },
  image_ops: { run: imageOps, owns: true, cpuOnly: true },
  state_dict_keys: { run: stateDictKeys, cpuOnly: true },
  face_align: { run: faceAlign, owns: true, cpuOnly: true },
  scrfd_decode: { run: scrfdDecode, owns: true, cpuOnly: true },
  bisenet: { run: bisenet },
  face_mask: { run: faceMask, cpuOnly: true },
  smplx_forward: { run: smplxForward, cpuOnly: true },
  rotations: { run: rotations, cpuOnly: true },
};

export interface CaseResult {
  case: string;
  folder: string;
  device: string;
  dtype: DType;
  status: "passed" | "failed" | "unsupported";
  tensors: TensorResult[];
  /** What went wrong before or instead of a comparison. */
  error?: string;
}

export interface GoldenReport {
  passed: number;
  failed: number;
  unsupported: number;
  cases: CaseResult[];
}

/** Folders with a case.json in `root`, or `root` itself, sorted; a case's own folders are not searched. */
export function findCases(root: string): string[] {
  if (existsSync(join(root, "case.json"))) return [root];
  return readdirSync(root, { withFileTypes: true })
    .filter((d) => d.isDirectory())
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((d) => findCases(join(root, d.name)));
}

/** A case's runner: that of its name, or of the name it extends (`unet2d_wide` is a `unet2d`). */
function runnerOf(name: string): Runner | undefined {
  const fits = Object.keys(runners).filter((n) => name === n || name.startsWith(`${n}_`));
  return runners[fits.sort((a, b) => b.length - a.length)[0]];
}

export async function runCase(folder: string, arithmetic: Arithmetic = cpuArithmetic): Promise<CaseResult> {
  const g = new GoldenCase(folder, arithmetic);
  const runner = runnerOf(g.name);
  if (runner?.cpuOnly) g.arithmetic = cpuArithmetic;
  else if (runner?.singleOnly) g.arithmetic = arithmeticOf(arithmetic.device, "float32");
  const result = { case: g.name, folder, device: g.arithmetic.device, dtype: g.arithmetic.dtype };
  try {
    if (!runner) return { ...result, status: "unsupported", tensors: [] };
    if (runner.owns) await runner.run(g);
    else scope(() => void runner.run(g));
    for (const name of g.unchecked()) g.expect(name, false, "the case holds it, but nothing was compared with it");
    return { ...result, status: g.results.every((r) => r.status === "passed") ? "passed" : "failed", tensors: g.results };
  } catch (error) {
    return { ...result, status: "failed", tensors: g.results, error: error instanceof Error ? error.message : String(error) };
  } finally {
    g.dispose();
  }
}

export async function runGolden(
  root: string,
  arithmetic: Arithmetic = cpuArithmetic,
  onCase?: (c: CaseResult) => void,
): Promise<GoldenReport> {
  const cases: CaseResult[] = [];
  // The fixtures' float32 is whole: a GPU's convolutions would round to ten bits by default.
  const before = allowTf32({ convolutions: false, products: false });
  try {
    for (const folder of findCases(root)) {
      const result = await runCase(folder, arithmetic);
      cases.push(result);
      onCase?.(result);
    }
  } finally {
    allowTf32(before);
  }
  const count = (status: CaseResult["status"]) => cases.filter((c) => c.status === status).length;
  return { passed: count("passed"), failed: count("failed"), unsupported: count("unsupported"), cases };
}
