#!/usr/bin/env node
// The command in projects outside this folder. Plain JavaScript, so that a Node that cannot read TypeScript says what it lacks.
if (Number(process.versions.node.split(".")[0]) < 24) {
  console.error(
    `anchor: Node 24 or newer is needed, this is ${process.version}: install it, or use "npm run -s anchor" in Make-Your-Anchor's own folder, which brings one`,
  );
  process.exit(1);
}
await import("../src/main.ts");
