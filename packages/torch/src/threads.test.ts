/** The engine in worker threads: tensors belong to a thread, and end with it. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { liveTensors } from "./index.ts";

const index = new URL("./index.ts", import.meta.url).href;
const started = (body: string) =>
  new Worker(
    `const { parentPort } = require("node:worker_threads");
     import(${JSON.stringify(index)}).then((torch) => { ${body} });`,
    { eval: true },
  );

test("a thread computes, and counts its own tensors", async () => {
  const before = liveTensors();
  const worker = started(`
    const t = torch.tensor([1, 2, 3]);
    parentPort.postMessage([torch.scope(() => t.square().sum().item()), torch.liveTensors()]);
  `);
  const exit = once(worker, "exit"); // may come with the message
  expect((await once(worker, "message"))[0]).toEqual([14, 1]);
  await exit;
  expect(liveTensors()).toBe(before);
});

test("a thread that is terminated leaves none of its memory behind", async () => {
  const held = 400 << 20;
  const hold = async () => {
    const worker = started(`
      globalThis.held = torch.ones([100, 1024, 1024]);
      parentPort.postMessage("held");
      setInterval(() => torch.scope(() => globalThis.held.narrow(0, 0, 8).mul(2)), 1);
    `);
    await once(worker, "message");
    await worker.terminate();
  };
  await hold();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 4; i++) await hold();
  expect(process.memoryUsage().rss - before).toBeLessThan(held);
});
