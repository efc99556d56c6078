/**
 * Stable Diffusion 1.x in one file (.ckpt, .safetensors), under the names of the code it was trained with (CompVis' latent
 * diffusion): UNet, VAE and text encoder; a ControlNet alone under lllyasviel's. Names become diffusers' names, and the configs,
 * which such a file lacks, are read off the shapes.
 */
import { noGrad, scope, TorchError, type Tensor } from "@make-your-anchor/torch";
import { ConfigError } from "./config.ts";
import type { WeightsSource } from "./source.ts";

/** Config keys a shape cannot tell, by part, over Stable Diffusion 1.x's own. */
export type SingleFileConfigs = Partial<Record<keyof SingleFileParts, Record<string, unknown>>>;

export interface SingleFilePart {
  /** As diffusers or transformers would have it in config.json. */
  readonly config: Record<string, unknown>;
  /** Under diffusers' names; not owned, it reads from the file it was made of. */
  readonly source: WeightsSource;
}

export type SingleFileParts = Partial<Record<"unet" | "controlnet" | "vae" | "text_encoder", SingleFilePart>>;

/** A name's new name; undefined: not of this part. */
type Rename = (key: string) => string | undefined;

class Renamed implements WeightsSource {
  readonly path: string;
  private readonly inner: WeightsSource;
  private readonly names = new Map<string, string>();

  constructor(inner: WeightsSource, rename: Rename) {
    this.inner = inner;
    this.path = inner.path;
    for (const key of inner.keys()) {
      const name = rename(key);
      if (name !== undefined) this.names.set(name, key);
    }
  }
  keys(): Iterable<string> {
    return this.names.keys();
  }
  has(name: string): boolean {
    return this.names.has(name);
  }
  private key(name: string): string {
    const key = this.names.get(name);
    if (key === undefined) throw new TorchError("NO_KEY", `${this.path}: no tensor for "${name}"`);
    return key;
  }
  /** The VAE's attention was stored as 1×1 convolutions and is linear now. */
  private isFlattened(name: string, shape: readonly number[]): boolean {
    return shape.length === 4 && /\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$/.test(name);
  }
  shape(name: string): readonly number[] {
    const shape = this.inner.shape(this.key(name));
    return this.isFlattened(name, shape) ? shape.slice(0, 2) : shape;
  }
  read(name: string): Tensor {
    const t = this.inner.read(this.key(name));
    if (!this.isFlattened(name, t.shape)) return t;
    return scope(() => noGrad(() => t.reshape(this.shape(name))));
  }
  [Symbol.dispose](): void {
    // The file is its opener's.
  }
}

const table = (key: string, names: readonly (readonly [RegExp, string])[]): string => {
  for (const [from, to] of names) if (from.test(key)) return key.replace(from, to);
  return key;
};

const resnetNames: readonly (readonly [RegExp, string])[] = [
  [/\bin_layers\.0\./, "norm1."],
  [/\bin_layers\.2\./, "conv1."],
  [/\bemb_layers\.1\./, "time_emb_proj."],
  [/\bout_layers\.0\./, "norm2."],
  [/\bout_layers\.3\./, "conv2."],
  [/\bskip_connection\./, "conv_shortcut."],
];

/** Names of the UNet's way down, middle and up; `layers` resnets a level. */
function unetName(key: string, layers: number): string {
  const m = /^(input_blocks|middle_block|output_blocks)\.(\d+)\.(.*)$/.exec(key);
  if (!m) {
    return table(key, [
      [/^time_embed\.0\./, "time_embedding.linear_1."],
      [/^time_embed\.2\./, "time_embedding.linear_2."],
      [/^out\.0\./, "conv_norm_out."],
      [/^out\.2\./, "conv_out."],
    ]);
  }
  const [, part, number, rest] = m;
  const i = Number(number);
  if (part === "middle_block") {
    const place = ["resnets.0", "attentions.0", "resnets.1"][i];
    return `mid_block.${place}.${i === 1 ? rest : table(rest, resnetNames)}`;
  }
  const inner = /^(\d+)\.(.*)$/.exec(rest);
  if (!inner) return key;
  const [, slot, name] = inner;
  if (part === "input_blocks") {
    if (i === 0) return `conv_in.${name}`;
    const [level, j] = [Math.floor((i - 1) / (layers + 1)), (i - 1) % (layers + 1)];
    if (j === layers) return `down_blocks.${level}.downsamplers.0.${name.replace(/^op\./, "conv.")}`;
    return slot === "0" ? `down_blocks.${level}.resnets.${j}.${table(name, resnetNames)}` : `down_blocks.${level}.attentions.${j}.${name}`;
  }
  const [level, j] = [Math.floor(i / (layers + 1)), i % (layers + 1)];
  if (slot === "0") return `up_blocks.${level}.resnets.${j}.${table(name, resnetNames)}`;
  return name.startsWith("conv.") ? `up_blocks.${level}.upsamplers.0.${name}` : `up_blocks.${level}.attentions.${j}.${name}`;
}

/** Names a ControlNet has beside the UNet's. */
function controlnetName(key: string, layers: number, hints: number): string {
  const zero = /^zero_convs\.(\d+)\.0\.(.*)$/.exec(key);
  if (zero) return `controlnet_down_blocks.${zero[1]}.${zero[2]}`;
  if (key.startsWith("middle_block_out.0.")) return key.replace("middle_block_out.0.", "controlnet_mid_block.");
  const hint = /^input_hint_block\.(\d+)\.(.*)$/.exec(key);
  if (hint) {
    // Every second entry is an activation.
    const n = Number(hint[1]) / 2;
    const place = n === 0 ? "conv_in" : n === hints - 1 ? "conv_out" : `blocks.${n - 1}`;
    return `controlnet_cond_embedding.${place}.${hint[2]}`;
  }
  return unetName(key, layers);
}

function vaeName(key: string, levels: number): string {
  const spatial = (rest: string) =>
    table(rest, [
      [/^norm\./, "group_norm."],
      [/^q\./, "to_q."],
      [/^k\./, "to_k."],
      [/^v\./, "to_v."],
      [/^proj_out\./, "to_out.0."],
    ]);
  const resnet = (rest: string) => rest.replace(/^nin_shortcut\./, "conv_shortcut.");
  let m = /^(encoder|decoder)\.mid\.(block_1|block_2|attn_1)\.(.*)$/.exec(key);
  if (m) {
    const place = { block_1: "resnets.0", block_2: "resnets.1", attn_1: "attentions.0" }[m[2] as "block_1"];
    return `${m[1]}.mid_block.${place}.${m[2] === "attn_1" ? spatial(m[3]) : resnet(m[3])}`;
  }
  m = /^(encoder|decoder)\.(down|up)\.(\d+)\.(block|downsample|upsample)\.(.*)$/.exec(key);
  if (m) {
    const [, half, way, number, what, rest] = m;
    // The decoder counted its levels from the finest.
    const level = way === "up" ? levels - 1 - Number(number) : Number(number);
    const block = /^(\d+)\.(.*)$/.exec(rest);
    return what === "block" && block
      ? `${half}.${way}_blocks.${level}.resnets.${block[1]}.${resnet(block[2])}`
      : `${half}.${way}_blocks.${level}.${what}rs.0.${rest}`;
  }
  return key.replace(/^(encoder|decoder)\.norm_out\./, "$1.conv_norm_out.");
}

/** The highest index + 1 of `pattern`'s number among names. */
const count = (names: readonly string[], pattern: RegExp): number =>
  names.reduce((n, name) => Math.max(n, 1 + Number(pattern.exec(name)?.[1] ?? -1)), 0);

/** Reads off a UNet's or ControlNet's way down what its config would say. */
function unetConfig(source: Renamed, names: readonly string[]): Record<string, unknown> {
  const levels = count(names, /^down_blocks\.(\d+)\./);
  const width = (level: number) => source.shape(`down_blocks.${level}.resnets.0.conv1.weight`)[0];
  const widths = Array.from({ length: levels }, (_, i) => width(i));
  const attends = widths.map((_, i) => names.some((n) => n.startsWith(`down_blocks.${i}.attentions.`)));
  const key = names.find((n) => n.endsWith("attn2.to_k.weight"));
  if (!key) throw new ConfigError(`${source.path}: its UNet has no cross-attention: not a Stable Diffusion checkpoint`);
  const projection = names.find((n) => n.endsWith("attentions.0.proj_in.weight"))!;
  return {
    in_channels: source.shape("conv_in.weight")[1],
    block_out_channels: widths,
    down_block_types: attends.map((a) => (a ? "CrossAttnDownBlock2D" : "DownBlock2D")),
    layers_per_block: count(names, /^down_blocks\.0\.resnets\.(\d+)\./),
    cross_attention_dim: source.shape(key)[1],
    // Stable Diffusion 2: refused by the model, by name.
    ...(source.shape(projection).length === 2 ? { use_linear_projection: true } : {}),
  };
}

function unetPart(file: WeightsSource, keys: readonly string[], prefix: string): SingleFilePart {
  // The first level ends with its downsampler.
  const firstDown = keys.map((k) => /^input_blocks\.(\d+)\.0\.op\.weight$/.exec(k)?.[1]).find((n) => n !== undefined);
  const layers = firstDown === undefined ? Math.max(1, count(keys, /^input_blocks\.(\d+)\./) - 1) : Number(firstDown) - 1;
  const hints = (count(keys, /^input_hint_block\.(\d+)\./) + 1) / 2;
  const source = new Renamed(file, (key) => (key.startsWith(prefix) ? controlnetName(key.slice(prefix.length), layers, hints) : undefined));
  const names = [...source.keys()];
  const config = unetConfig(source, names);
  if (hints >= 1) {
    const embedding = Array.from({ length: hints - 1 }, (_, i) => (i === 0 ? "conv_in" : `blocks.${i - 1}`));
    const widths = embedding.map((place) => source.shape(`controlnet_cond_embedding.${place}.weight`)[0]);
    // Blocks come in pairs: one keeps the width, one widens.
    config.conditioning_embedding_out_channels = widths.filter((_, i) => i % 2 === 0);
    config.conditioning_channels = source.shape("controlnet_cond_embedding.conv_in.weight")[1];
  } else {
    config.out_channels = source.shape("conv_out.weight")[0];
    config.up_block_types = (config.down_block_types as string[]).map((t) => t.replace("Down", "Up")).reverse();
  }
  return { config, source };
}

function vaePart(file: WeightsSource, prefix: string): SingleFilePart {
  const keys = [...file.keys()].filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length));
  const levels = count(keys, /^encoder\.down\.(\d+)\./);
  // The training loss's own weights lie beside the VAE's.
  const isVae = /^(encoder|decoder|quant_conv|post_quant_conv)\./;
  const source = new Renamed(file, (key) => {
    const name = key.slice(prefix.length);
    return key.startsWith(prefix) && isVae.test(name) ? vaeName(name, levels) : undefined;
  });
  const config = {
    in_channels: source.shape("encoder.conv_in.weight")[1],
    out_channels: source.shape("decoder.conv_out.weight")[0],
    block_out_channels: Array.from({ length: levels }, (_, i) => source.shape(`encoder.down_blocks.${i}.resnets.0.conv2.weight`)[0]),
    layers_per_block: count([...source.keys()], /^encoder\.down_blocks\.0\.resnets\.(\d+)\./),
    latent_channels: source.shape("post_quant_conv.weight")[0],
    scaling_factor: 0.18215,
  };
  return { config, source };
}

function textPart(file: WeightsSource, prefix: string): SingleFilePart {
  const source = new Renamed(file, (key) =>
    key.startsWith(prefix) && !key.endsWith("position_ids") ? `text_model.${key.slice(prefix.length)}` : undefined,
  );
  const tokens = source.shape("text_model.embeddings.token_embedding.weight");
  const config = {
    vocab_size: tokens[0],
    hidden_size: tokens[1],
    max_position_embeddings: source.shape("text_model.embeddings.position_embedding.weight")[0],
    num_hidden_layers: count([...source.keys()], /^text_model\.encoder\.layers\.(\d+)\./),
    intermediate_size: source.shape("text_model.encoder.layers.0.mlp.fc1.weight")[0],
    num_attention_heads: Math.max(1, tokens[1] / 64),
  };
  return { config, source };
}

/**
 * The parts of a single-file checkpoint. `file` stays open as long as a part is read.
 * @throws {ConfigError} when the file is none of Stable Diffusion 1.x's
 */
export function singleFileParts(file: WeightsSource, configs: SingleFileConfigs = {}): SingleFileParts {
  const keys = [...file.keys()];
  const under = (prefix: string) => keys.filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length));
  const parts: SingleFileParts = {};
  for (const [part, prefixes] of [
    ["controlnet", ["control_model.", ""]],
    ["unet", ["model.diffusion_model.", ""]],
  ] as const) {
    for (const prefix of prefixes) {
      const mine = under(prefix);
      const isControlnet = mine.some((k) => k.startsWith("input_hint_block."));
      const isUnet = mine.some((k) => k.startsWith("output_blocks."));
      if ((part === "controlnet" ? isControlnet : isUnet) && !parts[part]) parts[part] = unetPart(file, mine, prefix);
    }
  }
  for (const prefix of ["first_stage_model.", ""])
    if (!parts.vae && keys.includes(`${prefix}encoder.down.0.block.0.conv1.weight`)) parts.vae = vaePart(file, prefix);
  const text = "cond_stage_model.transformer.text_model.";
  if (under(text).length > 0) parts.text_encoder = textPart(file, text);
  else if (under("cond_stage_model.model.").length > 0)
    throw new ConfigError(`${file.path}: a checkpoint of Stable Diffusion 2 (OpenCLIP text encoder); this takes Stable Diffusion 1.x`);
  if (Object.keys(parts).length === 0)
    throw new ConfigError(
      `${file.path}: not a Stable Diffusion 1.x checkpoint: none of its ${keys.length} tensors (${keys.slice(0, 3).join(", ")}, …) has a name of one`,
    );
  for (const [part, own] of Object.entries(configs)) Object.assign(parts[part as keyof SingleFileParts]?.config ?? {}, own);
  return parts;
}
