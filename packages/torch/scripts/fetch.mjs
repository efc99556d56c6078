// Fetches a file: node fetch.mjs URL PATH. Gives up when nothing comes for 15 s; goes on where an earlier try broke off.
import { closeSync, existsSync, openSync, renameSync, statSync, writeSync } from "node:fs";

const [url, path] = process.argv.slice(2);
const part = `${path}.part`;
const have = existsSync(part) ? statSync(part).size : 0;
const stalled = new AbortController();
let timer;
const alive = () => {
  clearTimeout(timer);
  timer = setTimeout(() => stalled.abort(new Error("nothing came for 15 s")), 15_000);
};
try {
  alive();
  const response = await fetch(url, { headers: have ? { range: `bytes=${have}-` } : {}, signal: stalled.signal });
  if (!response.ok && response.status !== 416) throw new Error(`the server answered ${response.status}`);
  const appends = response.status === 206;
  const total = Number(response.headers.get("content-length")) + (appends ? have : 0);
  let done = appends ? have : 0;
  let shown = 0;
  if (response.status !== 416) {
    // Written at once: Node's fetch fails an assertion where a server hangs up while it is made to wait (nodejs/undici#5360).
    const file = openSync(part, appends ? "a" : "w");
    try {
      for await (const chunk of response.body) {
        alive();
        writeSync(file, chunk);
        done += chunk.length;
        if (Date.now() - shown > 5000) {
          shown = Date.now();
          console.error(`setup:   ${(done / 2 ** 20).toFixed(0)}${total ? ` of ${(total / 2 ** 20).toFixed(0)}` : ""} MiB`);
        }
      }
    } finally {
      closeSync(file);
    }
    if (total && done !== total) throw new Error(`it broke off at byte ${done} of ${total}; the next try goes on there`);
  }
  renameSync(part, path);
} catch (error) {
  console.error(`setup: ${url}: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
} finally {
  clearTimeout(timer);
}
