#!/usr/bin/env node
// The command of the package made of this folder. What an older Node cannot read is loaded behind this line.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 12)) {
  console.error(`anchor: Node 22.12 or newer is needed, this is ${process.version}: install it (https://nodejs.org)`);
  process.exit(1);
}
await import("../dist/main.js");
