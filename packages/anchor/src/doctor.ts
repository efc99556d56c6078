/** `doctor`: what is here, what is missing, and how to get it. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { requireEncoder } from "@make-your-anchor/media";
import { setupCommand } from "@make-your-anchor/torch/setup-command";
import { hubOf } from "./hub/cache.ts";
import { catalogue, publishedStatus } from "./hub/catalogue.ts";
import { toolVersion } from "./version.ts";

export interface Check {
  what: string;
  ok: boolean;
  detail: string;
  /** How to get what is missing. */
  wayOut?: string;
  /** Missing, but nothing the default path needs. */
  optional?: boolean;
}

export interface Diagnosis {
  tool: string;
  ok: boolean;
  checks: Check[];
  licences: { what: string; licence: string; use: string }[];
}

export async function diagnose(): Promise<Diagnosis> {
  const checks: Check[] = [];
  const major = Number(process.versions.node.split(".")[0]);
  checks.push({
    what: "Node",
    ok: major >= 22,
    detail: process.versions.node,
    wayOut:
      'install Node 22.12 or newer, or run the command through "npm run -s anchor --" in Make-Your-Anchor\'s own folder, which brings one',
  });
  for (const tool of ["ffmpeg", "ffprobe"]) {
    const run = spawnSync(tool, ["-version"], { encoding: "utf8" });
    const lack = run.status !== 0 ? "not found" : tool === "ffmpeg" ? await requireEncoder().catch((e: Error) => e.message) : undefined;
    checks.push({
      what: tool,
      ok: lack === undefined,
      detail: lack ?? run.stdout.split("\n")[0].match(/version (\S+)/)?.[1] ?? "",
      wayOut: `run "${setupCommand}", or "apt-get install ffmpeg"`,
    });
  }
  let engine = false;
  try {
    const { cudaDevices, engineInfo, ones, scope } = await import("@make-your-anchor/torch");
    const info = engineInfo();
    const works = scope(
      () =>
        ones([2, 2])
          .matmul(ones([2, 2]))
          .sum()
          .item() === 8,
    );
    engine = works;
    checks.push({ what: "engine", ok: works, detail: `libtorch ${info.version}, ${info.threads} threads` });
    checks.push({
      what: "CUDA",
      ok: info.cuda,
      optional: true,
      detail: info.cuda
        ? `${cudaDevices()} device${cudaDevices() === 1 ? "" : "s"}, used unless --device says otherwise`
        : "not available: everything runs on the CPU",
      wayOut: `with an NVIDIA driver: LIBTORCH_DOWNLOAD=cu128 ${setupCommand} (or LIBTORCH=/path/to/a/CUDA/libtorch)`,
    });
  } catch (error) {
    checks.push({ what: "engine", ok: false, detail: (error as Error).message, wayOut: `run "${setupCommand}"` });
  }
  try {
    const { createDetector } = await import("@make-your-anchor/face");
    const detector = createDetector({ workers: 1 });
    await detector.detect({ width: 64, height: 64, data: new Uint8Array(64 * 64 * 3) });
    await detector.close();
    checks.push({ what: "landmark detector", ok: true, detail: "Human on WebAssembly, comes with npm" });
  } catch (error) {
    checks.push({
      what: "landmark detector",
      ok: false,
      detail: (error as Error).message,
      wayOut: engine ? "install the npm packages again" : `run "${setupCommand}"`,
    });
  }
  const smplx = process.env.SMPLX_MODEL;
  checks.push({
    what: "SMPL-X body model",
    ok: smplx !== undefined && existsSync(smplx),
    optional: true,
    detail: smplx ? (existsSync(smplx) ? smplx : `${smplx} (SMPLX_MODEL) is not there`) : "not given: the mannequin is used",
    wayOut: 'register at its publisher, download SMPLX_NEUTRAL.npz and give it with "anchor create --body-model FILE"',
  });
  const hub = hubOf();
  const published = Object.values(catalogue).map((entry) => publishedStatus(hub, entry));
  for (const p of published) {
    checks.push({
      what: p.what,
      ok: p.present,
      optional: true,
      detail: p.present
        ? `${p.folder} (${(p.bytes / 2 ** 30).toFixed(1)} GiB)`
        : p.missing.length > 0
          ? `not whole in ${p.folder}: ${p.missing.map((m) => m || "weights").join(", ")} missing`
          : `not in ${hub.cache}; only the sd15 preset needs it`,
      wayOut: `${p.command}   (${p.size} GiB; ${p.licence})`,
    });
  }
  return {
    tool: toolVersion,
    ok: checks.every((c) => c.ok || c.optional),
    checks,
    licences: [
      { what: "this tool, its mannequin and the mini preset", licence: "Apache-2.0", use: "any" },
      { what: "landmark models (Human)", licence: "MIT (package); models after Google MediaPipe and MoveNet, Apache-2.0", use: "any" },
      ...published.map((p) => ({ what: `${p.what} (if you pull it)`, licence: p.licence, use: "as its licence says" })),
      { what: "libtorch", licence: "BSD-3-Clause", use: "any" },
      { what: "ffmpeg (the system's)", licence: "LGPL/GPL", use: "called as a program" },
      { what: "SMPL-X body model (if you bring it)", licence: "Max Planck, non-commercial research", use: "not for commercial avatars" },
    ],
  };
}
