/**
 * Makes the packages that other projects install: compiled, with declarations, the base and set-up's script.
 *   npm run pack [-- FOLDER]     writes FOLDER/make-your-anchor-NAME-VERSION.tgz (default dist/)
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

interface Manifest {
  name: string;
  version: string;
  description: string;
  exports?: Record<string, string>;
  [key: string]: unknown;
}

const root = fileURLToPath(new URL("..", import.meta.url));
/** What a package holds beside its compiled sources. */
const also: Record<string, readonly string[]> = {
  torch: ["native", "scripts/setup.sh", "scripts/fetch.mjs"],
  media: [],
  diffusion: [],
  body: [],
  face: [],
  anchor: ["base"],
  cli: ["bin"],
};

/** Compiled sources lie in dist/ as they do in src/. */
function published(manifest: Manifest): Manifest {
  const compiled = (from: string): string | { types: string; default: string } => {
    const base = /^\.\/src\/(.*)\.ts$/.exec(from)?.[1];
    return base === undefined ? from : { types: `./dist/${base}.d.ts`, default: `./dist/${base}.js` };
  };
  const { exports, ...rest } = manifest;
  return {
    ...rest,
    ...(exports && {
      // For compilers that do not read exports ("moduleResolution": "node10").
      ...((exports["."] && { main: "./dist/index.js", types: "./dist/index.d.ts" }) as object),
      exports: {
        ...Object.fromEntries(Object.entries(exports).map(([k, v]) => [k, compiled(v)])),
        "./package.json": "./package.json",
      } as never,
    }),
    // Types are gone and `using` is compiled away; what is left runs on the Node that the command line's parser asks for.
    engines: { node: ">=22.12" },
  };
}

const readme = ({ name, description }: Manifest): string => `# ${name}

${description}. A part of Make-Your-Anchor for TypeScript: personal 2D avatars from a minute of footage.

After \`npm install\` of all its packages, \`npx anchor setup\` installs what the engine needs (libtorch, ffmpeg, a compiler; Debian and Ubuntu, with root or sudo)
and builds it once; \`npx anchor doctor\` says what is there. Apache-2.0.
`;

const out = resolve(process.env.ANCHOR_CALLER_DIR ?? process.cwd(), process.argv[2] ?? join(root, "dist"));
mkdirSync(out, { recursive: true });
// Another version's beside them would not install together.
for (const file of readdirSync(out)) if (/^make-your-anchor-[a-z]+-\d.*\.tgz$/.test(file)) rmSync(join(out, file));
const stage = mkdtempSync(join(tmpdir(), "pack-"));
try {
  const build = join(stage, "build");
  execFileSync(join(root, "node_modules", ".bin", "tsc"), ["-p", join(root, "tsconfig.pack.json"), "--outDir", build], {
    stdio: ["ignore", 2, 2],
  });
  for (const [name, extra] of Object.entries(also)) {
    const from = join(root, "packages", name);
    const to = join(stage, name);
    cpSync(join(build, name, "src"), join(to, "dist"), { recursive: true });
    for (const path of extra) cpSync(join(from, path), join(to, path), { recursive: true });
    const manifest = JSON.parse(readFileSync(join(from, "package.json"), "utf8")) as Manifest;
    writeFileSync(join(to, "package.json"), `${JSON.stringify(published(manifest), null, 2)}\n`);
    writeFileSync(join(to, "README.md"), readme(manifest));
    cpSync(join(root, "LICENSE"), join(to, "LICENSE"));
    const file = `${manifest.name.slice(1).replace("/", "-")}-${manifest.version}.tgz`;
    execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", out], { cwd: to, stdio: ["ignore", "ignore", 2] });
    if (!existsSync(join(out, file))) throw new Error(`npm pack wrote no ${file}`);
    console.log(join(out, file));
  }
} finally {
  rmSync(stage, { recursive: true, force: true });
}
