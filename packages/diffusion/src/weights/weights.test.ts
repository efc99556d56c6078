/** Weights in the forms they are published in: folders, shards, Python checkpoints, one file in CompVis' names. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { loadSafetensors, noGrad, saveSafetensors, scope, type StateDictSource, type Tensor } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  loadSingleFile,
  openWeightsFile,
  readConfig,
  singleFileParts,
  UNet2DConditionModel,
  type WeightsSource,
} from "../index.ts";

const golden = (name: string) => fileURLToPath(new URL(`../../../../test/golden/${name}`, import.meta.url));
const checkpoints = (name: string) => fileURLToPath(new URL(`../../../../test/checkpoints/${name}`, import.meta.url));
const root = mkdtempSync(join(tmpdir(), "weights-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let made = 0;
const folder = (): string => {
  const path = join(root, String(made++));
  mkdirSync(path);
  return path;
};
const vaeFolder = golden("vae/vae");
const vaeFile = join(vaeFolder, "diffusion_pytorch_model.safetensors");
const withConfig = (): string => {
  const path = folder();
  cpSync(join(vaeFolder, "config.json"), join(path, "config.json"));
  return path;
};
const sameWeights = (a: AutoencoderKL, b: AutoencoderKL, atol = 0): void => {
  for (const [name, p] of a.namedParameters()) {
    const other = b.stateDict().get(name)!;
    const worst = scope(() => noGrad(() => p.value.sub(other).abs().max().item()));
    expect(worst, name).toBeLessThanOrEqual(atol);
  }
};

describe("folders", () => {
  const original = AutoencoderKL.fromPretrained(vaeFolder);
  afterAll(() => original.dispose());

  it("shards with an index", () => {
    const path = withConfig();
    const all = [...loadSafetensors(vaeFile)];
    const half = all.length >> 1;
    const weight_map: Record<string, string> = {};
    [all.slice(0, half), all.slice(half)].forEach((part, i) => {
      const name = `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
      saveSafetensors(join(path, name), new Map(part));
      for (const [key] of part) weight_map[key] = name;
    });
    const index = join(path, "diffusion_pytorch_model.safetensors.index.json");
    writeFileSync(index, JSON.stringify({ metadata: {}, weight_map }));
    using vae = AutoencoderKL.fromPretrained(path);
    sameWeights(vae, original);

    rmSync(join(path, "diffusion_pytorch_model-00002-of-00002.safetensors"));
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/00002-of-00002.safetensors is missing: fetch every part/);
    writeFileSync(index, JSON.stringify({ weight_map: { a: "../../secret.safetensors" } }));
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/lies outside its folder/);
    writeFileSync(index, JSON.stringify({ weight_map: [] }));
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/not an index of weights/);
  });

  it("float16 and bfloat16, also as a variant's file", () => {
    for (const dtype of ["float16", "bfloat16"] as const) {
      const path = withConfig();
      const all = [...loadSafetensors(vaeFile)].map(([k, t]): [string, Tensor] => [k, t.to(dtype)]);
      const name = dtype === "float16" ? "diffusion_pytorch_model.fp16.safetensors" : "diffusion_pytorch_model.safetensors";
      saveSafetensors(join(path, name), new Map(all));
      using vae = AutoencoderKL.fromPretrained(path);
      expect(vae.dtype).toBe("float32");
      sameWeights(vae, original, dtype === "float16" ? 2e-3 : 2e-2);
      using kept = AutoencoderKL.fromPretrained(path, { dtype });
      expect(kept.dtype).toBe(dtype);
    }
  });

  it("a Python checkpoint (.bin)", () => {
    const path = withConfig();
    cpSync(checkpoints("vae.bin"), join(path, "diffusion_pytorch_model.bin"));
    using vae = AutoencoderKL.fromPretrained(path);
    sameWeights(vae, original, 2e-3); // stored as float16
  });

  it("what is no weights file is called by its name", () => {
    const path = withConfig();
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/no weights there/);
    writeFileSync(join(path, "diffusion_pytorch_model.bin"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/Git LFS pointer/);
    writeFileSync(join(path, "diffusion_pytorch_model.bin"), "<!DOCTYPE html><html>Not found</html>");
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/web page/);
    writeFileSync(join(path, "diffusion_pytorch_model.bin"), "");
    expect(() => AutoencoderKL.fromPretrained(path)).toThrow(/not a usable (torch )?checkpoint/);
  });
});

/**
 * CompVis' names beside diffusers', by walking the modules in the order the original code builds them: an account of the naming
 * of its own, so that a slip in the library's table shows.
 */
function compvisNames(c: { widths: number; layers: number; attends: boolean[] }): [string, string][] {
  const out: [string, string][] = [
    ["time_embed.0", "time_embedding.linear_1"],
    ["time_embed.2", "time_embedding.linear_2"],
    ["input_blocks.0.0", "conv_in"],
    ["out.0", "conv_norm_out"],
    ["out.2", "conv_out"],
  ];
  const resnet = (theirs: string, ours: string) =>
    out.push(
      [`${theirs}.in_layers.0`, `${ours}.norm1`],
      [`${theirs}.in_layers.2`, `${ours}.conv1`],
      [`${theirs}.emb_layers.1`, `${ours}.time_emb_proj`],
      [`${theirs}.out_layers.0`, `${ours}.norm2`],
      [`${theirs}.out_layers.3`, `${ours}.conv2`],
      [`${theirs}.skip_connection`, `${ours}.conv_shortcut`],
    );
  let block = 1;
  for (let level = 0; level < c.widths; level++) {
    for (let j = 0; j < c.layers; j++, block++) {
      resnet(`input_blocks.${block}.0`, `down_blocks.${level}.resnets.${j}`);
      if (c.attends[level]) out.push([`input_blocks.${block}.1`, `down_blocks.${level}.attentions.${j}`]);
    }
    if (level < c.widths - 1) out.push([`input_blocks.${block++}.0.op`, `down_blocks.${level}.downsamplers.0.conv`]);
  }
  resnet("middle_block.0", "mid_block.resnets.0");
  out.push(["middle_block.1", "mid_block.attentions.0"]);
  resnet("middle_block.2", "mid_block.resnets.1");
  block = 0;
  for (let level = 0; level < c.widths; level++) {
    const attends = c.attends[c.widths - 1 - level];
    for (let j = 0; j <= c.layers; j++, block++) {
      resnet(`output_blocks.${block}.0`, `up_blocks.${level}.resnets.${j}`);
      if (attends) out.push([`output_blocks.${block}.1`, `up_blocks.${level}.attentions.${j}`]);
      if (j === c.layers && level < c.widths - 1)
        out.push([`output_blocks.${block}.${attends ? 2 : 1}.conv`, `up_blocks.${level}.upsamplers.0.conv`]);
    }
  }
  return out;
}
function compvisVaeNames(levels: number, layers: number): [string, string][] {
  const out: [string, string][] = [];
  for (const half of ["encoder", "decoder"]) {
    const resnet = (theirs: string, ours: string) => {
      for (const part of ["norm1", "conv1", "norm2", "conv2"]) out.push([`${half}.${theirs}.${part}`, `${half}.${ours}.${part}`]);
      out.push([`${half}.${theirs}.nin_shortcut`, `${half}.${ours}.conv_shortcut`]);
    };
    out.push(
      [`${half}.conv_in`, `${half}.conv_in`],
      [`${half}.conv_out`, `${half}.conv_out`],
      [`${half}.norm_out`, `${half}.conv_norm_out`],
    );
    resnet("mid.block_1", "mid_block.resnets.0");
    resnet("mid.block_2", "mid_block.resnets.1");
    for (const [theirs, ours] of [
      ["norm", "group_norm"],
      ["q", "to_q"],
      ["k", "to_k"],
      ["v", "to_v"],
      ["proj_out", "to_out.0"],
    ])
      out.push([`${half}.mid.attn_1.${theirs}`, `${half}.mid_block.attentions.0.${ours}`]);
    for (let level = 0; level < levels; level++) {
      const [way, ours] = half === "encoder" ? ["down", level] : ["up", levels - 1 - level];
      for (let j = 0; j < layers + (half === "encoder" ? 0 : 1); j++)
        resnet(`${way}.${level}.block.${j}`, `${way}_blocks.${ours}.resnets.${j}`);
      if (half === "encoder" && level < levels - 1)
        out.push([`encoder.down.${level}.downsample.conv`, `encoder.down_blocks.${ours}.downsamplers.0.conv`]);
      if (half === "decoder" && level > 0) out.push([`decoder.up.${level}.upsample.conv`, `decoder.up_blocks.${ours}.upsamplers.0.conv`]);
    }
  }
  out.push(["quant_conv", "quant_conv"], ["post_quant_conv", "post_quant_conv"]);
  return out;
}
/** Ours → theirs for whole names. */
const renamer = (pairs: readonly [string, string][], prefix: string) => (name: string) => {
  const hit = pairs.filter(([, ours]) => name.startsWith(`${ours}.`)).sort((a, b) => b[1].length - a[1].length)[0];
  if (!hit) throw new Error(`the test knows no old name for ${name}`);
  return `${prefix}${hit[0]}${name.slice(hit[1].length)}`;
};
const isVaeAttention = (name: string, shape: readonly number[]) => shape.length === 2 && /mid_block\.attentions\.0\.to_/.test(name);

describe("one file in CompVis' names", () => {
  const small = { widths: 4, layers: 2, attends: [true, true, true, false] };

  it("gives the weights of the folders, and their configs but for what no shape tells", () => {
    const unetFile = golden("unet2d/unet/diffusion_pytorch_model.safetensors");
    const textFile = golden("clip_text/text_encoder/model.safetensors");
    const all = new Map<string, Tensor>();
    const unetName = renamer(compvisNames(small), "model.diffusion_model.");
    for (const [name, t] of loadSafetensors(unetFile)) all.set(unetName(name), t);
    const vaeName = renamer(compvisVaeNames(4, 2), "first_stage_model.");
    for (const [name, t] of loadSafetensors(vaeFile))
      all.set(vaeName(name), isVaeAttention(name, t.shape) ? t.reshape([...t.shape, 1, 1]) : t);
    for (const [name, t] of loadSafetensors(textFile)) all.set(`cond_stage_model.transformer.${name}`, t);
    // What training checkpoints hold besides.
    all.set("model_ema.decay", [...all.values()][0]);
    all.set("alphas_cumprod", [...all.values()][0]);
    const path = join(folder(), "model.safetensors");
    saveSafetensors(path, all);

    const configs = {
      unet: { norm_num_groups: 8 },
      vae: { norm_num_groups: 4 },
      text_encoder: { num_attention_heads: 4 },
    };
    const { unet, vae, textEncoder, controlnet } = loadSingleFile(path, { configs });
    expect(controlnet).toBeUndefined();
    for (const [model, file, config] of [
      [unet!, unetFile, golden("unet2d/unet/config.json")],
      [vae!, vaeFile, join(vaeFolder, "config.json")],
      [textEncoder!, textFile, golden("clip_text/text_encoder/config.json")],
    ] as const) {
      const wanted = loadSafetensors(file);
      for (const [name, p] of model.namedParameters()) expect(p.value.data(), name).toEqual(wanted.get(name)!.data());
      const theirs = readConfig(config);
      for (const [key, value] of Object.entries(model.config)) if (key in theirs) expect(theirs[key], key).toEqual(value);
    }
    const only = loadSingleFile(path, { configs, parts: ["vae"] });
    expect(Object.entries(only).flatMap(([k, v]) => (v ? [k] : []))).toEqual(["vae"]);
  });

  it("a ControlNet alone", () => {
    const file = golden("controlnet/controlnet/diffusion_pytorch_model.safetensors");
    const pairs: [string, string][] = compvisNames(small).filter(([, ours]) => !/^(up_blocks|conv_norm_out|conv_out)/.test(ours));
    for (let i = 0; i < 12; i++) pairs.push([`zero_convs.${i}.0`, `controlnet_down_blocks.${i}`]);
    pairs.push(["middle_block_out.0", "controlnet_mid_block"]);
    const hints = ["conv_in", ...Array.from({ length: 6 }, (_, i) => `blocks.${i}`), "conv_out"];
    hints.forEach((place, i) => pairs.push([`input_hint_block.${2 * i}`, `controlnet_cond_embedding.${place}`]));
    const name = renamer(pairs, "control_model.");
    const path = join(folder(), "control.safetensors");
    const weights = loadSafetensors(file);
    saveSafetensors(path, new Map([...weights].map(([k, t]) => [name(k), t])));
    const { controlnet } = loadSingleFile(path, { configs: { controlnet: { norm_num_groups: 8 } } });
    for (const [key, p] of controlnet!.namedParameters()) expect(p.value.data(), key).toEqual(weights.get(key)!.data());
  });

  it("every name and shape of the full-size models is found again", () => {
    const shapes = (file: string) =>
      (JSON.parse(readFileSync(golden(`state_dict_keys/${file}`), "utf8")) as { tensors: Record<string, number[]> }).tensors;
    const stored = new Map<string, readonly number[]>();
    for (const [name, shape] of Object.entries(shapes("sd15_unet.json")))
      stored.set(renamer(compvisNames(small), "model.diffusion_model.")(name), shape);
    for (const [name, shape] of Object.entries(shapes("sd15_vae.json")))
      stored.set(renamer(compvisVaeNames(4, 2), "first_stage_model.")(name), isVaeAttention(name, shape) ? [...shape, 1, 1] : shape);
    for (const [name, shape] of Object.entries(shapes("sd15_text_encoder.json"))) stored.set(`cond_stage_model.transformer.${name}`, shape);
    const file: WeightsSource = {
      path: "v1-5-pruned.ckpt",
      keys: () => stored.keys(),
      shape: (key) => stored.get(key)!,
      read: () => {
        throw new Error("nothing is read");
      },
      [Symbol.dispose]: () => {},
    };
    const parts = singleFileParts(file);
    for (const [part, json] of [
      ["unet", "sd15_unet.json"],
      ["vae", "sd15_vae.json"],
      ["text_encoder", "sd15_text_encoder.json"],
    ] as const) {
      const wanted = Object.entries(shapes(json)).filter(([k]) => !k.endsWith("position_ids"));
      const source: StateDictSource = parts[part]!.source;
      expect([...source.keys()].sort()).toEqual(wanted.map(([k]) => k).sort());
      for (const [name, shape] of wanted) expect(source.shape(name), name).toEqual(shape);
      const { config } = JSON.parse(readFileSync(golden(`state_dict_keys/${json}`), "utf8")) as { config: Record<string, unknown> };
      for (const [key, value] of Object.entries(parts[part]!.config))
        if (key in config) expect(config[key], `${part}.${key}`).toEqual(value);
    }
  });

  it("another kind of file is refused by name", () => {
    const path = join(folder(), "other.safetensors");
    saveSafetensors(path, loadSafetensors(golden("clip_text/text_encoder/model.safetensors")));
    expect(() => loadSingleFile(path)).toThrow(/not a Stable Diffusion 1.x checkpoint/);
  });
});

it("a folder read as a file, and a file that is not there", () => {
  expect(() => openWeightsFile(root)).toThrow(/cannot be read as a file of weights \(EISDIR\)/);
  expect(() => openWeightsFile(join(root, "absent.bin"))).toThrow(/ENOENT/);
  expect(() => UNet2DConditionModel.fromPretrained(join(root, "absent"))).toThrow(/no such file/);
});
