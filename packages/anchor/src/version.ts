import { createRequire } from "node:module";

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };

/** What made a file, as files and reports name it. */
export const toolVersion = `make-your-anchor ${version}`;
