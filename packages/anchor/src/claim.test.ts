import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { claim } from "./claim.ts";

let folder: string;
let lock: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "claim-"));
  lock = join(folder, "runs", "body.lock");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const left = (holder: object | string) => writeFileSync(lock, typeof holder === "string" ? holder : JSON.stringify(holder));
const taken = () => {
  using _ = claim(lock, "oliver's body is being trained");
  return JSON.parse(readFileSync(lock, "utf8")).pid === process.pid;
};

test("one at a time, in one process too; then the next, and nothing is left", () => {
  {
    using _ = claim(lock, "oliver's body is being trained");
    expect(() => claim(lock, "oliver's body is being trained")).toThrow(
      /oliver's body is being trained already, by this process: wait for it/,
    );
    expect(readdirSync(join(folder, "runs"))).toEqual(["body.lock"]);
  }
  expect(existsSync(lock)).toBe(false);
  expect(taken()).toBe(true);
  expect(readdirSync(join(folder, "runs"))).toEqual([]);
});

test("a living process keeps others out; once it is dead it does not", async () => {
  taken(); // makes the folder
  const child = spawn("sleep", ["60"]);
  const began = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1].split(" ")[19];
  left({ pid: child.pid, began, host: hostname() });
  expect(taken).toThrow(`by process ${child.pid}`);
  left({ pid: child.pid, began: "1", host: hostname() }); // another process of that number
  expect(taken()).toBe(true);
  left({ pid: child.pid, began, host: hostname() });
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(taken()).toBe(true);
});

test("a worker thread keeps others out until it ends, however it ends", async () => {
  const source = `
    const { parentPort, workerData } = require("node:worker_threads");
    import(workerData.module).then(({ claim }) => {
      claim(workerData.lock, "oliver's body is being trained");
      setInterval(() => {}, 1000);
      parentPort.postMessage("claimed");
    });`;
  const module = new URL("./claim.ts", import.meta.url).href;
  const worker = new Worker(source, { eval: true, workerData: { module, lock } });
  await once(worker, "message");
  expect(taken).toThrow("by this process");
  await worker.terminate();
  expect(existsSync(lock)).toBe(true);
  expect(taken()).toBe(true);
});

test("what a container that is gone left behind, or nobody wrote, is taken over", () => {
  taken();
  left({ pid: process.pid, began: null, host: "another" });
  expect(taken()).toBe(true);
  for (const nonsense of ["", "{", '"7"', "{}", '{"pid":-1}']) {
    left(nonsense);
    expect(taken()).toBe(true);
  }
});

test("a folder that cannot be made is said", () => {
  writeFileSync(join(folder, "runs"), "a file");
  expect(taken).toThrow(/cannot be written/);
});
