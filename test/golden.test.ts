/** Every fixture of the project, and those beside it where they are at hand, through the golden runner. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { findCases, runCase } from "../golden/run.ts";

const here = fileURLToPath(new URL("./golden", import.meta.url));
const beside = fileURLToPath(new URL("../../shared/golden", import.meta.url));

describe("numbers of the original's code", () => {
  const folders = findCases(here);
  for (const folder of folders) it(basename(folder), () => pass(folder));

  const names = new Set(folders.map((f) => basename(f)));
  const further = existsSync(beside) ? findCases(beside).filter((f) => !names.has(basename(f))) : [];
  it.skipIf(further.length === 0)("large fixtures (outside the project: skipped where ../shared/golden is absent)", async () => {
    const results = await Promise.all(further.map((f) => runCase(f)));
    const of = (status: string) => results.filter((r) => r.status === status);
    for (const r of of("failed")) expect({ [r.case]: [r.error, r.tensors.filter((t) => t.status === "failed")] }).toEqual({});
    expect(of("passed").length).toBeGreaterThan(0);
  });

  async function pass(folder: string): Promise<void> {
    const { status, error, tensors } = await runCase(folder);
    expect(
      tensors.filter((t) => t.status === "failed"),
      error,
    ).toEqual([]);
    expect(error).toBeUndefined();
    expect(status).toBe("passed");
    expect(tensors.length).toBeGreaterThan(0);
  }
});
