import http from "node:http";
import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { run } from "../run.ts";

export function addPull(program: Command): void {
  program
    .command("pull <what>")
    .description("fetch published weights into the Hugging Face cache: sd15, sd-inpainting, clip-vit-b32, or owner/name[@revision]")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nHF_ENDPOINT names a mirror, HF_TOKEN an account's token, HF_HOME where the cache lies,\nHTTPS_PROXY, HTTP_PROXY and NO_PROXY a proxy (Node 22 wants NODE_USE_ENV_PROXY=1 with them). What is here is not fetched again.",
    )
    .action((what: string, o: { json?: boolean }) =>
      run(o, async (c) => {
        // Node's fetch heeds proxies only when it is told to; 22 knows NODE_USE_ENV_PROXY=1 alone.
        http.setGlobalProxyFromEnv?.();
        const { findPublished, hubOf, pull } = await import("@make-your-anchor/anchor/hub");
        const entry = findPublished(what);
        const result = await pull(entry, { hub: hubOf(), onProgress: c.onProgress, signal: c.signal });
        if (c.json) return printJson({ ...result, licence: entry.licence });
        print(
          `${entry.what}: ${result.files} files, ${(result.bytes / 2 ** 20).toFixed(0)} MiB (${(result.fetched / 2 ** 20).toFixed(0)} fetched now)`,
        );
        print(result.folder);
        print(`licence: ${entry.licence}`);
      }),
    );
}
