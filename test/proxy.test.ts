/** `anchor pull` from behind a proxy. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const main = fileURLToPath(new URL("../packages/cli/src/main.ts", import.meta.url));

it("a proxy that the environment names is asked", async () => {
  const asked: (string | undefined)[] = [];
  const proxy = createServer();
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const home = mkdtempSync(join(tmpdir(), "proxy-"));
  try {
    const HTTPS_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const child = spawn(process.execPath, [main, "pull", "sd15"], {
      env: { PATH: process.env.PATH, HF_HOME: home, HF_ENDPOINT: "https://hub.invalid", HTTPS_PROXY },
      stdio: "ignore",
    });
    proxy.on("connect", (request, socket) => {
      asked.push(request.url);
      socket.on("error", () => {}); // the end of who asked
      socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
      child.kill("SIGKILL"); // it would try for a while
    });
    await once(child, "exit");
    expect(asked).toEqual(["hub.invalid:443"]);
  } finally {
    proxy.close();
    rmSync(home, { recursive: true, force: true });
  }
});
