import { expect, test } from "vitest";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fromData, Generator, noGrad, scope, zeros, cat } from "@make-your-anchor/torch";
import { shippedBase, startFrom, startFromBase, resolveFrom, unlikeBase } from "./base.ts";
import { presets } from "./presets.ts";

test("the base that ships is all there, at most 24 MB, and says what it was trained on", () => {
  const size = (folder: string): number =>
    readdirSync(folder, { withFileTypes: true }).reduce(
      (n, e) => n + (e.isDirectory() ? size(join(folder, e.name)) : statSync(join(folder, e.name)).size),
      0,
    );
  expect(size(shippedBase)).toBeLessThan(24e6);
  expect(existsSync(join(shippedBase, "README.md"))).toBe(true);
});

test("of the preset's shapes, for body and head", () => {
  for (const model of ["body", "head"] as const) {
    const [based, plain] = ["base", "nothing"].map((from) => startFrom(presets.mini, model, from));
    for (const part of ["unet", "controlnet", "vae", "encoder"] as const) {
      const shapes = (m: typeof based) => [...m[part].stateDict()].map(([k, t]) => `${k} ${t.shape.join("x")}`).sort();
      expect(shapes(based), `${model} ${part}`).toEqual(shapes(plain));
    }
    for (const m of [based, plain]) for (const part of Object.values(m)) part.dispose();
  }
});

test("a body's UNet is the whole one where nothing is kept, its draft in the masked picture's place", () => {
  const [body, head] = [startFromBase(shippedBase, "body"), startFromBase(shippedBase, "head")];
  scope(() =>
    noGrad(() => {
      using g = new Generator(1);
      const [x, draft, context] = [g.randn([2, 8, 16, 16]), g.randn([2, 8, 16, 16]), g.randn([2, 5, 96])];
      const t = fromData(BigInt64Array.of(700n, 20n), [2]);
      const [a, b] = [
        body.unet.forward(cat([x, draft], 1), t, context),
        head.unet.forward(cat([x, zeros([2, 1, 16, 16]), draft], 1), t, context),
      ];
      expect(a.abs().mean().item()).toBeGreaterThan(0.01);
      expect(a.sub(b).abs().max().item()).toBeLessThan(1e-4);
    }),
  );
  for (const m of [body, head]) for (const part of Object.values(m)) part.dispose();
});

test("what --from means", () => {
  expect(resolveFrom(presets.mini, undefined)).toBe("base");
  expect(resolveFrom(presets.mini, "nothing")).toBe("nothing");
  expect(resolveFrom(presets.sd15, undefined)).toBe("published");
  expect(resolveFrom(presets.sd15, "/stage1")).toBe("/stage1");
  expect(() => resolveFrom(presets.sd15, "nothing")).toThrow(/sd15 preset starts from published weights/);
});

test("an avatar whose condition frames the base does not know is told so", () => {
  expect(unlikeBase({ preset: "mini", conditionStyle: "shaded" })).toMatch(
    /are shaded, but the base knows surface ones.*"anchor create --force"/,
  );
  expect(unlikeBase({ preset: "mini", conditionStyle: "surface" })).toBeUndefined();
  expect(unlikeBase({ preset: "mini", conditionStyle: "shaded" }, "nothing")).toBeUndefined();
  expect(unlikeBase({ preset: "sd15", conditionStyle: "shaded" })).toBeUndefined();
});
