/** The packages in somebody's own TypeScript project: packed, installed, set up. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(root, "node_modules", ".bin", "tsc");
const names = ["anchor", "body", "cli", "diffusion", "face", "media", "torch"];

describe("in a project of one's own", () => {
  let project: string;
  let modules: string;
  beforeAll(() => {
    project = mkdtempSync(join(tmpdir(), "product-"));
    modules = join(project, "node_modules");
    const packed = join(project, "packed");
    execFileSync(process.execPath, [join(root, "scripts", "pack.ts"), packed], { stdio: ["ignore", "ignore", "inherit"] });
    expect(readdirSync(packed).sort()).toEqual(names.map((n) => `make-your-anchor-${n}-0.1.0.tgz`));
    // What `npm install packed/*.tgz` makes of it, with other people's packages from here and not from the network.
    for (const name of names) {
      const to = join(modules, "@make-your-anchor", name);
      mkdirSync(to, { recursive: true });
      execFileSync("tar", ["xzf", join(packed, `make-your-anchor-${name}-0.1.0.tgz`), "--strip-components=1", "-C", to]);
    }
    for (const name of readdirSync(join(root, "node_modules")))
      if (!name.startsWith(".") && name !== "@make-your-anchor") symlinkSync(join(root, "node_modules", name), join(modules, name));
    mkdirSync(join(modules, ".bin"));
    symlinkSync("../@make-your-anchor/cli/bin/anchor.js", join(modules, ".bin", "anchor"));
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "product", type: "module" }));
  });
  afterAll(() => rmSync(project, { recursive: true, force: true }));

  const anchor = (...args: string[]) => {
    const own = { ANCHOR_CALLER_DIR: undefined, ANCHOR_HOME: undefined, ANCHOR_TOOLS: join(project, "tools"), ANCHOR_SETUP: undefined };
    const env = { ...process.env, ...own };
    const { status, stdout, stderr } = spawnSync(join(modules, ".bin", "anchor"), args, { cwd: project, env, encoding: "utf8" });
    return { status, stdout, stderr };
  };
  const checked = (options: object, source: string) => {
    const compilerOptions = { strict: true, target: "es2023", noEmit: true, skipLibCheck: false, types: ["node"], ...options };
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

  it("holds compiled files, the base, no tests and nothing but declared packages", () => {
    for (const name of names) {
      const at = join(modules, "@make-your-anchor", name);
      const files = readdirSync(at, { recursive: true, encoding: "utf8" });
      expect(files).toContain("LICENSE");
      expect(files).toContain("README.md");
      expect(files.filter((f) => /\.test\.|(?<!\.d)\.ts$/.test(f))).toEqual([]);
      const { dependencies } = JSON.parse(readFileSync(join(at, "package.json"), "utf8")) as { dependencies: Record<string, string> };
      for (const file of files.filter((f) => f.startsWith("dist/") && f.endsWith(".js")))
        for (const [, used] of readFileSync(join(at, file), "utf8").matchAll(
          /(?:^(?:import|export) (?:[^;"=(]*from )?|import\()"(?!node:|\.)((?:@[\w-]+\/)?[\w-]+)/gm,
        ))
          if (used !== "onnxruntime-node") expect(Object.keys(dependencies), `${name}/${file}`).toContain(used);
    }
    expect(existsSync(join(modules, "@make-your-anchor", "anchor", "base", "mini", "training.json"))).toBe(true);
  });

  it.each([
    ["nodenext", { module: "nodenext" }],
    ["a bundler", { module: "esnext", moduleResolution: "bundler" }],
  ])("its types are there for %s", (_, options) => {
    expect(checked(options, source)).toEqual({ status: 0, stdout: "" });
    const wrong = source.replace("minutes: 5", 'minutes: "five"').replace('motion: "motion.npz"', "motion: 7");
    const { status, stdout } = checked(options, wrong);
    expect(status).not.toBe(0);
    expect(stdout.match(/^main\.ts.*error/gm) ?? stdout).toHaveLength(2);
  });

  it("compiles the examples of the documentation", () => {
    const files = ["README.md", "docs/library.md"].flatMap((page) =>
      Array.from(readFileSync(join(root, page), "utf8").matchAll(/^```ts\n([^]*?)^```/gm), ([, code], i) => {
        const file = `${page.replaceAll(/\W/g, "-")}-${i}.ts`;
        writeFileSync(join(project, file), code);
        return file;
      }),
    );
    expect(files.length).toBeGreaterThan(3);
    const options = ["--strict", "--noEmit", "--module", "nodenext", "--types", "node", "--ignoreConfig"];
    const { status, stdout } = spawnSync(tsc, [...options, ...files], { cwd: project, encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
  });

  it("says what to type while the engine is not set up, and sets it up", () => {
    const none = anchor("create", "me", "--clip", "clip.mp4");
    expect(none).toMatchObject({ status: 1, stderr: expect.stringMatching(/addon is not built .* run "npx anchor setup"/) });
    const doctor = anchor("doctor");
    expect(doctor.status).toBe(1);
    expect(doctor.stdout).toMatch(/MISSING engine: .*\n +run "npx anchor setup"/);
    const first = anchor("setup");
    expect(first).toMatchObject({ status: 0, stderr: expect.stringContaining("building the libtorch addon") });
    expect(anchor("setup")).toMatchObject({ status: 0, stderr: expect.stringContaining("addon: up to date") });
    expect(anchor("doctor")).toMatchObject({ status: 0, stdout: expect.stringMatching(/ok +engine[^]*ok +landmark detector/) });
  });

  it("runs there", () => {
    writeFileSync(join(project, "main.ts"), source);
    const { status, stdout, stderr } = spawnSync(process.execPath, ["main.ts"], { cwd: project, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(JSON.parse(stdout)).toEqual([[2, 4, 6], 5]);
  });

  it("brings the command, its threads and the base", () => {
    const trained = anchor("pretrain", "decoder", "--out", "base", "--from", "base", "--steps", "1", "--json");
    expect(trained, trained.stderr).toMatchObject({ status: 0 });
    const unknown = anchor("train", "nobody");
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toContain(join(project, "avatars", "nobody"));
  });
});
