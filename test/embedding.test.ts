/** The library in somebody's own TypeScript project, outside this folder. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(root, "node_modules", ".bin", "tsc");

describe("in a project of one's own", () => {
  let project: string;
  beforeAll(() => {
    execFileSync("bash", [join(root, "scripts", "types.sh")], {
      env: { ...process.env, PATH: `${join(root, "node_modules", ".bin")}:${process.env.PATH}` },
    });
    project = mkdtempSync(join(tmpdir(), "product-"));
    // What `npm install /path/to/packages/anchor` makes of a folder outside the project.
    const scope = join(project, "node_modules", "@make-your-anchor");
    mkdirSync(scope, { recursive: true });
    for (const name of ["anchor", "torch", "cli"]) symlinkSync(join(root, "packages", name), join(scope, name));
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "product", type: "module" }));
  });
  afterAll(() => rmSync(project, { recursive: true, force: true }));

  const checked = (options: object, source: string) => {
    const compilerOptions = { strict: true, target: "es2023", noEmit: true, skipLibCheck: true, types: [], ...options };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.ts"] }));
    writeFileSync(join(project, "main.ts"), source);
    const { status, stdout } = spawnSync(tsc, ["-p", "."], { cwd: project, encoding: "utf8" });
    return { status, stdout };
  };
  const source = `
    import { Avatar, animate, type AnimateResult, type TrainOptions } from "@make-your-anchor/anchor";
    import { backward, scope, tensor, type Tensor } from "@make-your-anchor/torch";

    const w: Tensor = tensor([1, 2, 3]).requiresGrad_();
    scope(() => backward(w.square().sum()));
    const options: TrainOptions = { minutes: 5, onProgress: ({ stage, done }) => void (stage + done.toFixed(0)) };
    export const perform = (avatar: Avatar): Promise<AnimateResult> => animate(avatar, { motion: "motion.npz" });
    console.log(JSON.stringify([Array.from(w.grad!.data(), Number), options.minutes]));
  `;

  it.each([
    ["nodenext", { module: "nodenext" }],
    ["a bundler", { module: "esnext", moduleResolution: "bundler" }],
  ])("its types are there for %s, and the compiler is shown none of our sources", (_, options) => {
    expect(checked(options, source)).toEqual({ status: 0, stdout: "" });
    const wrong = source.replace("minutes: 5", 'minutes: "five"').replace('motion: "motion.npz"', "motion: 7");
    const { status, stdout } = checked(options, wrong);
    expect(status).not.toBe(0);
    expect(stdout.match(/^main\.ts.*error/gm) ?? stdout).toHaveLength(2);
    expect(stdout).not.toContain("src/");
  });

  it("runs there as it is", () => {
    writeFileSync(join(project, "main.ts"), source);
    const { status, stdout, stderr } = spawnSync(process.execPath, ["main.ts"], { cwd: project, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(JSON.parse(stdout)).toEqual([[2, 4, 6], 5]);
  });

  it("brings the command", () => {
    const bin = join(project, "node_modules", ".bin");
    mkdirSync(bin);
    symlinkSync("../@make-your-anchor/cli/bin/anchor.js", join(bin, "anchor"));
    const env = { ...process.env, ANCHOR_CALLER_DIR: undefined, ANCHOR_HOME: undefined };
    const anchor = (...args: string[]) => spawnSync(join(bin, "anchor"), args, { cwd: project, env, encoding: "utf8" });
    const { status, stdout } = anchor("animate", "--help");
    expect(status).toBe(0);
    expect(stdout).toContain("--motion");
    const none = anchor("train", "nobody");
    expect(none.status).toBe(2);
    expect(none.stderr).toContain(join(project, "avatars", "nobody"));
  });
});
