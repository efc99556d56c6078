import { expect, test } from "vitest";
import { Kept } from "./kept.ts";

function things(most: number) {
  const log: string[] = [];
  const kept = new Kept(
    most,
    async (k) => {
      if (k < 0) throw new Error("no such thing");
      log.push(`make ${k}`);
      return { k };
    },
    ({ k }) => log.push(`release ${k}`),
  );
  const use = (...keys: number[]) => kept.use(keys, (of) => of.map((t) => t.k));
  return { kept, log, use };
}

test("so many are kept, the others made each time and released after use", async () => {
  const { kept, log, use } = things(2);
  expect(await use(1, 2, 3)).toEqual([1, 2, 3]);
  expect(await use(3, 1)).toEqual([3, 1]);
  expect(log).toEqual(["make 1", "make 2", "make 3", "release 3", "make 3", "release 3"]);
  kept[Symbol.dispose]();
  expect(log.slice(6)).toEqual(["release 1", "release 2"]);
});

test("when one cannot be made, nothing that passes through is lost", async () => {
  const { log, use } = things(1);
  await expect(use(1, 2, -1)).rejects.toThrow("no such thing");
  expect(log).toEqual(["make 1", "make 2", "release 2"]);
});
