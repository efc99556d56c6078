import { describe, expect, it } from "vitest";
import { loadSafetensors } from "@make-your-anchor/torch";
import { fileURLToPath } from "node:url";
import { readFileSync } from "node:fs";
import { bytesRounded, bytesTruncated, readImage, resizeCv2, resizePil, toLuma, type Filter } from "./index.ts";

const golden = (name: string) => fileURLToPath(new URL(`../../../test/golden/image_ops/${name}`, import.meta.url));
const outputs = loadSafetensors(golden("outputs.safetensors"));
const { ops } = JSON.parse(readFileSync(golden("case.json"), "utf8")) as {
  ops: { output: string; op: string; source: string; width: number; height: number }[];
};

function worst(a: ArrayLike<number>, name: string): number {
  const b = outputs.get(name)!.data();
  expect(a.length).toBe(b.length);
  let w = 0;
  for (let i = 0; i < b.length; i++) w = Math.max(w, Math.abs(a[i] - Number(b[i])));
  return w;
}

describe("image operations equal PIL and OpenCV", () => {
  for (const { output, op, source, width, height } of ops) {
    it(output, async () => {
      const image = await readImage(golden(source));
      if (op === "cv2_linear") expect(worst(resizeCv2(image, width, height).data, output)).toBeLessThanOrEqual(1);
      else if (op === "decode_rgb") expect(worst(image.data, output)).toBe(0);
      else if (op === "decode_L") expect(worst(toLuma(image), output)).toBe(0);
      else if (op === "mask_binary")
        expect(
          worst(
            toLuma(image).map((v) => (v >= 128 ? 1 : 0)),
            output,
          ),
        ).toBe(0);
      else expect(worst(resizePil(image, width, height, op as Filter).data, output)).toBe(0);
    });
  }
  it("floats to bytes, cut down and rounded", () => {
    const floats = loadSafetensors(golden("inputs.safetensors")).get("floats")!.floats();
    expect(worst(bytesTruncated(floats), "to_u8.truncate")).toBe(0);
    expect(worst(bytesRounded(floats), "to_u8.round")).toBe(0);
  });
});
