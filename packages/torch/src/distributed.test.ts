import { afterAll, beforeAll, expect, test } from "vitest";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cudaDevices } from "./device.ts";
import { groupBackends, groupFromEnvironment, ProcessGroup } from "./distributed.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "group-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function port(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/* Skipped where the engine was built without c10d's Gloo, which comes with the system's libtorch alone, or without its NCCL or a GPU. */
const gloo = groupBackends().includes("gloo");
const gpus = groupBackends().includes("nccl") ? cudaDevices() : 0;

/** Runs a script in as many processes; what each printed. */
async function together(count: number, body: string, o: { kill?: number; nccl?: boolean } = {}): Promise<string[]> {
  const script = join(folder, `script-${count}.ts`);
  const index = new URL("./index.ts", import.meta.url).href;
  writeFileSync(
    script,
    `import { fromData, ProcessGroup, scope } from "${index}";
const [rank, worldSize, masterPort] = [process.env.RANK, process.env.WORLD_SIZE, process.env.MASTER_PORT].map(Number);
const group = new ProcessGroup({ rank, worldSize, masterAddr: "127.0.0.1", masterPort, timeout: 20${o.nccl ? ', backend: "nccl", device: "cuda:" + rank' : ""} });
${body}
group.close();`,
  );
  const meeting = String(await port());
  return Promise.all(
    Array.from({ length: count }, async (_, rank) => {
      const env = { ...process.env, RANK: String(rank), WORLD_SIZE: String(count), MASTER_PORT: meeting, OMP_NUM_THREADS: "1", VITEST: "" };
      const child = spawn(process.execPath, [script], { env, stdio: ["ignore", "pipe", "pipe"] });
      let text = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (d: Buffer) => (text += d));
      if (o.kill === rank) child.stdout.once("data", () => child.kill("SIGKILL"));
      await new Promise((done) => void child.once("close", done));
      return text.trim();
    }),
  );
}

test.skipIf(!gloo)("sums and broadcasts reach all, in place, for several tensors at once", { timeout: 60_000 }, async () => {
  const out = await together(
    3,
    `const [a, b] = [fromData(Float32Array.of(group.rank, 1), [2]), fromData(Float32Array.of(10 * group.rank), [1, 1])];
group.allReduce([a, b]);
const c = fromData(Float64Array.of(group.rank + 0.5), [1]);
group.broadcast([c], 1);
console.log(JSON.stringify([group.worldSize, ...a.floats(), ...b.floats(), c.item()]));`,
  );
  for (const text of out) expect(JSON.parse(text)).toEqual([3, 3, 3, 30, 1.5]);
});

test.skipIf(!gloo)("a process that dies is named to the others, at once", { timeout: 60_000 }, async () => {
  const out = await together(
    2,
    `console.log("here");
if (group.rank === 1) await new Promise((done) => setTimeout(done, 30_000));
try {
  group.allReduce([fromData(Float32Array.of(1), [1])]);
} catch (error) {
  console.log(error.code, error.message);
}`,
    { kill: 1 },
  );
  expect(out[0]).toMatch(/GROUP process 0 of 2 lost the others \(.+\): did one of them end\?/);
});

test.skipIf(gpus === 0)("NCCL sums and broadcasts on GPUs, one a process", { timeout: 120_000 }, async () => {
  const count = Math.min(gpus, 3);
  const out = await together(
    count,
    `const own = (values) => fromData(values, [values.length]).to(group.device);
const [a, b] = [own(Float32Array.of(group.rank, 1)), own(Float64Array.of(10 * group.rank))];
group.allReduce([a, b]);
const c = own(Float64Array.of(group.rank + 0.5));
group.broadcast([c], group.worldSize - 1);
console.log(JSON.stringify([group.backend, group.worldSize, ...a.to("cpu").floats(), ...b.to("cpu").data(), c.item()]));`,
    { nccl: true },
  );
  const sum = (count * (count - 1)) / 2;
  for (const text of out) expect(JSON.parse(text)).toEqual(["nccl", count, sum, count, 10 * sum, count - 0.5]);
});

test("what a build lacks is said with the way to it", () => {
  for (const backend of ["gloo", "nccl"] as const) {
    if (groupBackends().includes(backend)) continue;
    expect(() => new ProcessGroup({ backend, rank: 0, worldSize: 1, masterAddr: "127.0.0.1", masterPort: 1 })).toThrow(
      backend === "gloo" ? /without c10d's Gloo: .*libgloo-dev/ : /without c10d's NCCL: .*LIBTORCH_USE_PYTORCH=1/,
    );
  }
});

test("the usual variables", () => {
  expect(groupFromEnvironment({})).toBeUndefined();
  expect(groupFromEnvironment({ WORLD_SIZE: "1", RANK: "0" })).toBeUndefined();
  expect(groupFromEnvironment({ WORLD_SIZE: "4", RANK: "2", MASTER_ADDR: "10.0.0.1", MASTER_PORT: "1234" })).toEqual({
    rank: 2,
    worldSize: 4,
    masterAddr: "10.0.0.1",
    masterPort: 1234,
  });
  expect(() => groupFromEnvironment({ WORLD_SIZE: "2", RANK: "2" })).toThrow(/WORLD_SIZE=2 RANK=2/);
  expect(() => groupFromEnvironment({ WORLD_SIZE: "x" })).toThrow(/expected a size above 1/);
});
