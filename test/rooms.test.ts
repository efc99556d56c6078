/** Imports point downwards only. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const packages = fileURLToPath(new URL("../packages", import.meta.url));
const allowed: Record<string, readonly string[]> = {
  torch: [],
  media: [],
  diffusion: ["torch", "media"],
  body: ["torch"],
  face: ["torch", "media"],
  anchor: ["torch", "media", "diffusion", "body", "face"],
  cli: ["anchor"],
};

describe("rooms", () => {
  for (const [name, below] of Object.entries(allowed)) {
    it(`${name} imports ${below.length > 0 ? below.join(", ") : "none of the others"} only`, () => {
      const files = readdirSync(join(packages, name, "src"), { recursive: true, encoding: "utf8" }).filter(
        (f) => f.endsWith(".ts") && !f.endsWith(".test.ts"),
      );
      expect(files.length).toBeGreaterThan(0);
      for (const file of files) {
        const text = readFileSync(join(packages, name, "src", file), "utf8");
        for (const [, room] of text.matchAll(/from "@make-your-anchor\/([\w-]+)|import\("@make-your-anchor\/([\w-]+)/g))
          if (room) expect(below, `${name}/src/${file}`).toContain(room);
        for (const [, path] of text.matchAll(/from "(\.[^"]+)"/g))
          expect(join(name, "src", file, "..", path).startsWith(join(name, "src")), `${file} reaches out of its room: ${path}`).toBe(true);
      }
      const declared = Object.keys(JSON.parse(readFileSync(join(packages, name, "package.json"), "utf8")).dependencies).filter((d) =>
        d.startsWith("@make-your-anchor/"),
      );
      for (const d of declared) expect(below).toContain(d.split("/")[1]);
    });
  }
});
