import { expect, test } from "vitest";
import { cudaDevices } from "@make-your-anchor/torch";
import { Processes, shareDevices } from "./processes.ts";

test("on the CPU processes meet over Gloo", () => {
  expect(shareDevices("cpu", 1, 2)).toEqual({ backend: "gloo", device: "cpu" });
});

test("on GPUs each has one of its own, and too few are told before anything starts", () => {
  const gpus = cudaDevices();
  if (gpus === 0) return expect(() => shareDevices("cuda", 0, 2)).toThrow(/device cuda: this engine sees no CUDA device/);
  expect(shareDevices("cuda", gpus - 1, gpus)).toEqual({ backend: "nccl", device: `cuda:${gpus - 1}` });
  expect(() => shareDevices("cuda", 0, gpus + 1)).toThrow(`${gpus + 1} processes want as many GPUs, and this machine has ${gpus}`);
  expect(() => shareDevices("cuda:0", 0, 1)).toThrow(/device cuda:0: each of several processes takes a GPU of its own/);
});

test("one process is all of them", () => {
  const alone = new Processes();
  expect([alone.count, alone.main, alone.slice(3), alone.sumOf(2), alone.follow([1, 2])]).toEqual([
    1,
    true,
    { from: 0, count: 3 },
    2,
    [1, 2],
  ]);
});
