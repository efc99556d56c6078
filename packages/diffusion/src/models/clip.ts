/** CLIP's two towers (arXiv:2103.00020) under transformers' names. */
import {
  arange,
  attention,
  cat,
  Conv2d,
  Embedding,
  expectShape,
  LayerNorm,
  Linear,
  Module,
  ModuleList,
  normal,
  type LoadOptions,
  type Parameter,
  type Tensor,
} from "@make-your-anchor/torch";
import { ConfigError, readConfig } from "../weights/config.ts";
import { loadWeights } from "../weights/source.ts";

export interface ClipTowerConfig {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  hidden_act: "quick_gelu" | "gelu";
  layer_norm_eps: number;
}

export interface ClipVisionConfig extends ClipTowerConfig {
  image_size: number;
  patch_size: number;
  num_channels: number;
}

export interface ClipTextConfig extends ClipTowerConfig {
  vocab_size: number;
  max_position_embeddings: number;
}

const tower = { hidden_act: "quick_gelu", layer_norm_eps: 1e-5 } as const;
/** CLIP ViT-B/32. */
export const clipVisionDefaults: ClipVisionConfig = {
  ...tower,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  image_size: 224,
  patch_size: 32,
  num_channels: 3,
};
/** The text encoder of Stable Diffusion 1.5 (CLIP ViT-L/14's). */
export const clipTextDefaults: ClipTextConfig = {
  ...tower,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  vocab_size: 49408,
  max_position_embeddings: 77,
};

class ClipAttention extends Module {
  private readonly heads: number;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly qProj: Linear;
  private readonly outProj: Linear;

  constructor(c: ClipTowerConfig) {
    super();
    const n = c.hidden_size;
    this.heads = c.num_attention_heads;
    this.kProj = this.child("k_proj", new Linear(n, n));
    this.vProj = this.child("v_proj", new Linear(n, n));
    this.qProj = this.child("q_proj", new Linear(n, n));
    this.outProj = this.child("out_proj", new Linear(n, n));
  }
  forward(x: Tensor, causal: boolean): Tensor {
    return this.outProj.forward(attention(this.qProj.forward(x), this.kProj.forward(x), this.vProj.forward(x), this.heads, causal));
  }
}

class ClipMlp extends Module {
  private readonly quick: boolean;
  private readonly fc1: Linear;
  private readonly fc2: Linear;

  constructor(c: ClipTowerConfig) {
    super();
    if (c.hidden_act !== "quick_gelu" && c.hidden_act !== "gelu")
      throw new ConfigError(`CLIP: hidden_act "${String(c.hidden_act)}" is not supported, only "quick_gelu" and "gelu"`);
    this.quick = c.hidden_act === "quick_gelu";
    this.fc1 = this.child("fc1", new Linear(c.hidden_size, c.intermediate_size));
    this.fc2 = this.child("fc2", new Linear(c.intermediate_size, c.hidden_size));
  }
  forward(x: Tensor): Tensor {
    const y = this.fc1.forward(x);
    return this.fc2.forward(this.quick ? y.mul(y.mul(1.702).sigmoid()) : y.gelu());
  }
}

class ClipLayer extends Module {
  private readonly selfAttn: ClipAttention;
  private readonly layerNorm1: LayerNorm;
  private readonly mlp: ClipMlp;
  private readonly layerNorm2: LayerNorm;

  constructor(c: ClipTowerConfig) {
    super();
    this.selfAttn = this.child("self_attn", new ClipAttention(c));
    this.layerNorm1 = this.child("layer_norm1", new LayerNorm(c.hidden_size, c.layer_norm_eps));
    this.mlp = this.child("mlp", new ClipMlp(c));
    this.layerNorm2 = this.child("layer_norm2", new LayerNorm(c.hidden_size, c.layer_norm_eps));
  }
  forward(x: Tensor, causal: boolean): Tensor {
    const y = x.add(this.selfAttn.forward(this.layerNorm1.forward(x), causal));
    return y.add(this.mlp.forward(this.layerNorm2.forward(y)));
  }
}

const layersOf = (c: ClipTowerConfig) => new ModuleList(Array.from({ length: c.num_hidden_layers }, () => new ClipLayer(c)));

/** Stored keys that hold no weights: indices 0, 1, 2, … */
const positionIds = /(^|\.)embeddings\.position_ids$/;

export class CLIPVisionModel extends Module {
  readonly config: ClipVisionConfig & Record<string, unknown>;
  private readonly classEmbedding: Parameter;
  private readonly patchEmbedding: Conv2d;
  private readonly positionEmbedding: Embedding;
  private readonly preNorm: LayerNorm;
  private readonly layers: ModuleList<ClipLayer>;
  private readonly postNorm: LayerNorm;

  constructor(config: Partial<ClipVisionConfig> & Record<string, unknown> = {}) {
    super();
    this.config = { ...clipVisionDefaults, ...config };
    const c = this.config;
    const tokens = (c.image_size / c.patch_size) ** 2 + 1;
    this.classEmbedding = this.param("vision_model.embeddings.class_embedding", [c.hidden_size], normal(0.02));
    this.patchEmbedding = this.child(
      "vision_model.embeddings.patch_embedding",
      new Conv2d(c.num_channels, c.hidden_size, c.patch_size, { stride: c.patch_size, bias: false }),
    );
    this.positionEmbedding = this.child("vision_model.embeddings.position_embedding", new Embedding(tokens, c.hidden_size));
    this.preNorm = this.child("vision_model.pre_layrnorm", new LayerNorm(c.hidden_size, c.layer_norm_eps)); // published spelling
    this.layers = this.child("vision_model.encoder.layers", layersOf(c));
    this.postNorm = this.child("vision_model.post_layernorm", new LayerNorm(c.hidden_size, c.layer_norm_eps));
  }

  /** Reads a transformers folder: the vision model alone, or a whole CLIPModel, whose other half is left out. */
  static fromPretrained(folder: string, options: LoadOptions = {}): CLIPVisionModel {
    const file = readConfig(`${folder}/config.json`);
    const whole = typeof file.vision_config === "object" && file.vision_config !== null;
    const config = whole ? (file.vision_config as Record<string, unknown>) : file;
    const rename = (key: string) => (positionIds.test(key) || (whole && !key.startsWith("vision_model.")) ? undefined : key);
    return loadWeights(new CLIPVisionModel(config), folder, { rename, ...options });
  }

  /**
   * @param pixels `[B, 3, image_size, image_size]`, normalised by CLIP's mean and deviation
   * @returns `lastHiddenState` `[B, tokens, hidden_size]`, not through the last norm (this conditions the UNet); `pooled` `[B, hidden_size]`
   */
  forward(pixels: Tensor): { lastHiddenState: Tensor; pooled: Tensor } {
    const c = this.config;
    expectShape("pixels", pixels, ["B", c.num_channels, c.image_size, c.image_size]);
    const patches = this.patchEmbedding.forward(pixels).flatten(2).transpose(1, 2); // [B, N, C]
    const first = this.classEmbedding.value.reshape([1, 1, c.hidden_size]).expand([pixels.size(0), 1, c.hidden_size]);
    let x = this.preNorm.forward(cat([first, patches], 1).add(this.positionEmbedding.weight.value));
    for (const layer of this.layers) x = layer.forward(x, false);
    return { lastHiddenState: x, pooled: this.postNorm.forward(x.select(1, 0)) };
  }
}

export class CLIPTextModel extends Module {
  readonly config: ClipTextConfig & Record<string, unknown>;
  private readonly tokenEmbedding: Embedding;
  private readonly positionEmbedding: Embedding;
  private readonly layers: ModuleList<ClipLayer>;
  private readonly finalNorm: LayerNorm;

  constructor(config: Partial<ClipTextConfig> & Record<string, unknown> = {}) {
    super();
    this.config = { ...clipTextDefaults, ...config };
    const c = this.config;
    this.tokenEmbedding = this.child("text_model.embeddings.token_embedding", new Embedding(c.vocab_size, c.hidden_size));
    this.positionEmbedding = this.child(
      "text_model.embeddings.position_embedding",
      new Embedding(c.max_position_embeddings, c.hidden_size),
    );
    this.layers = this.child("text_model.encoder.layers", layersOf(c));
    this.finalNorm = this.child("text_model.final_layer_norm", new LayerNorm(c.hidden_size, c.layer_norm_eps));
  }

  static fromPretrained(folder: string, options: LoadOptions = {}): CLIPTextModel {
    const file = readConfig(`${folder}/config.json`);
    const whole = typeof file.text_config === "object" && file.text_config !== null;
    const config = whole ? (file.text_config as Record<string, unknown>) : file;
    const rename = (key: string) => (positionIds.test(key) || (whole && !key.startsWith("text_model.")) ? undefined : key);
    return loadWeights(new CLIPTextModel(config), folder, { rename, ...options });
  }

  /** `inputIds` int64 `[B, N]`, N up to `max_position_embeddings` → `[B, N, hidden_size]` after the last norm. Padding is not masked. */
  forward(inputIds: Tensor): Tensor {
    expectShape("input_ids", inputIds, ["B", "N"]);
    const positions = arange(0, inputIds.size(1), 1, { dtype: "int64", device: inputIds.device });
    let x = this.tokenEmbedding.forward(inputIds).add(this.positionEmbedding.forward(positions));
    for (const layer of this.layers) x = layer.forward(x, true);
    return this.finalNorm.forward(x);
  }
}
