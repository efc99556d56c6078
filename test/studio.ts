/** A tiny avatar, made and trained by the demo as a user would, for tests that start from one. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect } from "vitest";

/** The command line's program. */
export const main = fileURLToPath(new URL("../packages/cli/src/main.ts", import.meta.url));

export const ffmpeg = (...args: string[]) => {
  const run = spawnSync("ffmpeg", ["-v", "error", "-y", ...args], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(run.stderr);
};

/** What a test file works in, and what it does there. */
export interface Studio {
  /** Taken away at the end. */
  home: string;
  /** In it: `presenter/`, `presenter.mp4`, `new-speech.npz`, `video.mp4`. */
  demo: string;
  /** The environment in which `main` runs there. */
  env: NodeJS.ProcessEnv;
  anchor: (args: string[], env?: Record<string, string>) => { code: number | null; out: string; err: string };
}

/** Of a test file: the demo is there before its tests begin. */
export function studio(): Studio {
  const home = mkdtempSync(join(tmpdir(), "anchor-"));
  const env = { ...process.env, ANCHOR_CALLER_DIR: home, NODE_OPTIONS: "", VITEST: "" };
  const made: Studio = {
    home,
    demo: join(home, "demo"),
    env,
    anchor: (args, more = {}) => {
      const run = spawnSync(process.execPath, [main, ...args], { encoding: "utf8", env: { ...env, ...more } });
      return { code: run.status, out: run.stdout, err: run.stderr };
    },
  };
  afterAll(() => rmSync(home, { recursive: true, force: true }));
  beforeAll(() => {
    const { code, out, err } = made.anchor(["demo", "--clip-seconds", "1.6", "--steps", "6", "--seconds", "0.8", "--no-face", "--json"]);
    expect(code, err).toBe(0);
    expect(JSON.parse(out).video).toBe(join(made.demo, "video.mp4"));
    expect(err).toMatch(/training the body model: \d+\/6/);
  }, 600_000);
  return made;
}
