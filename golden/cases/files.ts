/** Pictures' operations, and the names and shapes of full-size weights. */
import { readFileSync } from "node:fs";
import type { Module } from "@make-your-anchor/torch";
import { AutoencoderKL, CLIPTextModel, CLIPVisionModel, ControlNetModel, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import { bytesRounded, bytesTruncated, readImage, resizeCv2, resizePil, toLuma, type Filter, type RgbImage } from "@make-your-anchor/media";
import type { GoldenCase } from "../case.ts";

interface Operation {
  output: string;
  op: string;
  source: string;
  width: number;
  height: number;
}

const operations: Record<string, (image: RgbImage, o: Operation) => ArrayLike<number>> = {
  decode_rgb: (image) => image.data,
  decode_L: toLuma,
  mask_binary: (image) => toLuma(image).map((v) => (v >= 128 ? 1 : 0)),
  cv2_linear: (image, o) => resizeCv2(image, o.width, o.height).data,
};
for (const filter of ["bilinear", "bicubic", "lanczos"] satisfies Filter[])
  operations[filter] = (image, o) => resizePil(image, o.width, o.height, filter).data;

export async function imageOps(g: GoldenCase): Promise<void> {
  for (const o of g.json.ops as Operation[]) {
    const run = operations[o.op];
    if (run) g.check(o.output, run(await readImage(g.path(o.source)), o));
    else g.expect(o.output, false, `the operation ${o.op} is not known`);
  }
  const floats = g.input("floats").floats();
  g.check("to_u8.truncate", bytesTruncated(floats));
  g.check("to_u8.round", bytesRounded(floats));
}

/** Models of published classes; nothing is allocated. */
const classes: Record<string, (config: Record<string, unknown>) => Module> = {
  UNet2DConditionModel: (c) => new UNet2DConditionModel(c),
  ControlNetModel: (c) => new ControlNetModel(c),
  AutoencoderKL: (c) => new AutoencoderKL(c),
  CLIPVisionModel: (c) => new CLIPVisionModel(c),
  CLIPTextModel: (c) => new CLIPTextModel(c),
};

export function stateDictKeys(g: GoldenCase): void {
  for (const [name, { file, parameters }] of Object.entries(g.json.models as Record<string, { file: string; parameters: number }>)) {
    const wanted = JSON.parse(readFileSync(g.path(file), "utf8")) as {
      class: string;
      config: Record<string, unknown>;
      tensors: Record<string, number[]>;
    };
    const make = classes[wanted.class.split(".").at(-1)!];
    if (!make) {
      g.expect(name, false, `the class ${wanted.class} is not known`);
      continue;
    }
    const model = make(wanted.config);
    const ours = new Map([...model.namedParameters()].map(([key, p]) => [key, p.shape.join()]));
    // Integer buffers that some versions store and no model needs.
    const theirs = Object.entries(wanted.tensors).filter(([key]) => !key.endsWith("position_ids"));
    const wrong = theirs.filter(([key, shape]) => ours.get(key) !== shape.join()).map(([key]) => key);
    const names = new Set(theirs.map(([key]) => key));
    const extra = [...ours.keys()].filter((key) => !names.has(key));
    g.expect(
      `${name}.names_and_shapes`,
      wrong.length + extra.length === 0,
      `missing or misshapen: ${wrong.slice(0, 5).join(", ") || "none"}; not in the file: ${extra.slice(0, 5).join(", ") || "none"}`,
    );
    g.compare(`${name}.parameters`, [model.parameterCount], [parameters], { exact: true });
  }
}
