/** Stable Diffusion's UNet and its form for video. */
import {
  Conv2d,
  expectShape,
  GroupNorm,
  Module,
  ModuleList,
  segment,
  siluOf,
  type LoadOptions,
  type Tensor,
} from "@make-your-anchor/torch";
import { ConfigError, readConfig, requireDefaults } from "../weights/config.ts";
import { loadWeights } from "../weights/source.ts";
import type { Dropout } from "./dropout.ts";
import { TimestepEmbedding, timestepFeatures } from "./embeddings.ts";
import type { FrameAttention } from "./transformer.ts";
import { DownBlock, MidBlock, UpBlock, type LevelOptions, type Pass } from "./unet-blocks.ts";

/** The keys of diffusers' `UNet2DConditionModel` config that we read; a config holds more. */
export interface UNetConfig {
  in_channels: number;
  out_channels: number;
  down_block_types: readonly string[];
  up_block_types: readonly string[];
  block_out_channels: readonly number[];
  layers_per_block: number;
  norm_num_groups: number;
  norm_eps: number;
  cross_attention_dim: number;
  /** The number of heads, whatever the name says. */
  attention_head_dim: number | readonly number[];
  flip_sin_to_cos: boolean;
  freq_shift: number;
  transformer_layers_per_block: number;
}

export const unetDefaults: UNetConfig = {
  in_channels: 4,
  out_channels: 4,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  block_out_channels: [320, 640, 1280, 1280],
  layers_per_block: 2,
  norm_num_groups: 32,
  norm_eps: 1e-5,
  cross_attention_dim: 768,
  attention_head_dim: 8,
  flip_sin_to_cos: true,
  freq_shift: 0,
  transformer_layers_per_block: 1,
};

/** Settings of newer models that Stable Diffusion 1.5 leaves at these values. */
export const unetFixed = {
  mid_block_type: "UNetMidBlock2DCrossAttn",
  act_fn: "silu",
  only_cross_attention: false,
  use_linear_projection: false,
  resnet_time_scale_shift: "default",
  dual_cross_attention: false,
  center_input_sample: false,
  time_embedding_type: "positional",
  class_embed_type: null,
  addition_embed_type: null,
  downsample_padding: 1,
  mid_block_scale_factor: 1,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
};

export const headsAt = (config: UNetConfig, level: number): number =>
  typeof config.attention_head_dim === "number" ? config.attention_head_dim : config.attention_head_dim[level];

export const levelOptions = (config: UNetConfig): LevelOptions => ({
  groups: config.norm_num_groups,
  eps: config.norm_eps,
  timeChannels: config.block_out_channels[0] * 4,
  contextChannels: config.cross_attention_dim,
  transformerLayers: config.transformer_layers_per_block,
});

const crossAttends = (type: string, names: readonly [string, string]): boolean => {
  if (!names.includes(type)) throw new ConfigError(`block type ${type} is not supported, only ${names.join(" and ")}`);
  return type === names[0];
};

/** The way down: `conv_in`, `time_embedding`, `down_blocks`, `mid_block`; the same in UNet and ControlNet. */
export abstract class UNetEncoder extends Module {
  readonly config: UNetConfig & Record<string, unknown>;
  protected readonly convIn: Conv2d;
  private readonly timeEmbedding: TimestepEmbedding;
  private readonly downBlocks: ModuleList<DownBlock>;
  protected readonly midBlock: MidBlock;

  constructor(config: Partial<UNetConfig>) {
    super();
    requireDefaults(new.target.name, config as Record<string, unknown>, unetFixed);
    this.config = { ...unetDefaults, ...config };
    const c = this.config;
    const widths = c.block_out_channels;
    if (c.down_block_types.length !== widths.length)
      throw new ConfigError(`${widths.length} block_out_channels, but ${c.down_block_types.length} down_block_types`);
    const o = levelOptions(c);
    this.convIn = this.child("conv_in", new Conv2d(c.in_channels, widths[0], 3, { padding: 1 }));
    this.timeEmbedding = this.child("time_embedding", new TimestepEmbedding(widths[0], widths[0] * 4));
    const blocks = widths.map((width, i) => {
      const heads = crossAttends(c.down_block_types[i], ["CrossAttnDownBlock2D", "DownBlock2D"]) ? headsAt(c, i) : null;
      return new DownBlock(widths[Math.max(0, i - 1)], width, c.layers_per_block, heads, i < widths.length - 1, o);
    });
    this.downBlocks = this.child("down_blocks", new ModuleList(blocks));
    this.midBlock = this.child("mid_block", new MidBlock(widths[widths.length - 1], headsAt(c, widths.length - 1), o));
  }

  /** Timesteps `[B]` → the time embedding `[B, 4·width]`. */
  embedTime(timesteps: Tensor): Tensor {
    const c = this.config;
    const features = timestepFeatures(timesteps, c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift);
    return this.timeEmbedding.forward(features.to(this.dtype));
  }

  protected pass(timesteps: Tensor, context: Tensor, batch: number, frames: number, over: FrameAttention, dropout?: Dropout): Pass {
    expectShape("timesteps", timesteps, [batch]);
    expectShape("encoder_hidden_states", context, [batch, "M", this.config.cross_attention_dim]);
    return { time: segment([], () => this.embedTime(timesteps).silu()), context, frames, over, dropout };
  }

  /** All skip connections, and the last down block's output. */
  protected down(x: Tensor, pass: Pass): { x: Tensor; skips: Tensor[] } {
    const skips = [x];
    let y = x;
    for (const block of this.downBlocks) y = block.forward(y, skips, pass);
    return { x: y, skips };
  }
}

export interface Residuals {
  /** One for each skip connection, `[B·F, C, H, W]`. */
  readonly down: readonly Tensor[];
  readonly mid: Tensor;
}

/** Predicts the noise (or velocity) in latents, told a timestep, a context and the ControlNet's residuals. */
export class UNet2DConditionModel extends UNetEncoder {
  private readonly upBlocks: ModuleList<UpBlock>;
  private readonly normOut: GroupNorm;
  private readonly convOut: Conv2d;

  constructor(config: Partial<UNetConfig> = {}) {
    super(config);
    const c = this.config;
    const reversed = [...c.block_out_channels].reverse();
    const o = levelOptions(c);
    const blocks = reversed.map((width, i) => {
      const before = reversed[Math.max(0, i - 1)];
      const below = reversed[Math.min(i + 1, reversed.length - 1)];
      const inputs = Array.from(
        { length: c.layers_per_block + 1 },
        (_, j) => (j === 0 ? before : width) + (j === c.layers_per_block ? below : width),
      );
      const heads = crossAttends(c.up_block_types[i], ["CrossAttnUpBlock2D", "UpBlock2D"]) ? headsAt(c, reversed.length - 1 - i) : null;
      return new UpBlock(inputs, width, heads, i < reversed.length - 1, o);
    });
    this.upBlocks = this.child("up_blocks", new ModuleList(blocks));
    this.normOut = this.child("conv_norm_out", new GroupNorm(c.norm_num_groups, c.block_out_channels[0], c.norm_eps));
    this.convOut = this.child("conv_out", new Conv2d(c.block_out_channels[0], c.out_channels, 3, { padding: 1 }));
  }

  /** Reads a diffusers folder. */
  static fromPretrained(folder: string, options: LoadOptions = {}): UNet2DConditionModel {
    return loadWeights(new UNet2DConditionModel(readConfig(`${folder}/config.json`)), folder, options);
  }

  /**
   * @param sample    `[B, in_channels, H, W]`
   * @param timesteps `[B]` int64
   * @param context   `[B, M, cross_attention_dim]`
   * @param dropout   for training
   * @returns         `[B, out_channels, H, W]`
   */
  forward(sample: Tensor, timesteps: Tensor, context: Tensor, residuals?: Residuals, dropout?: Dropout): Tensor {
    expectShape("sample", sample, ["B", this.config.in_channels, "H", "W"]);
    return this.run(sample, this.pass(timesteps, context, sample.size(0), 1, "perFrame", dropout), residuals, false);
  }

  /** `midSeesResidual`: the mid block's input already holds the last down residual (see UNet3DConditionModel). */
  protected run(sample: Tensor, pass: Pass, residuals: Residuals | undefined, midSeesResidual: boolean): Tensor {
    let { x, skips } = this.down(
      segment([sample], ([x]) => this.convIn.forward(x)),
      pass,
    );
    if (residuals) {
      skips = skips.map((skip, i) => segment([skip, residuals.down[i]], ([a, b]) => a.add(b)));
      if (midSeesResidual) x = skips[skips.length - 1];
    }
    x = this.midBlock.forward(x, pass);
    if (residuals) x = segment([x, residuals.mid], ([a, b]) => a.add(b));
    for (const block of this.upBlocks) x = block.forward(x, skips, pass);
    return segment([x], ([x]) => this.convOut.forward(siluOf(this.normOut.forward(x, pass.frames))));
  }
}

/**
 * The same weights over the frames of a video: self-attention over all frames of a sample, group statistics over all frames.
 * In the original the residuals are added in place, and the last skip connection is the very tensor that enters the mid block;
 * so the mid block sees it plus its residual. The 2D model, and with it the training, does not: `aliased: false` is that.
 */
export class UNet3DConditionModel extends UNet2DConditionModel {
  static override fromPretrained(folder: string, options: LoadOptions = {}): UNet3DConditionModel {
    return loadWeights(new UNet3DConditionModel(readConfig(`${folder}/config.json`)), folder, options);
  }

  /** `sample` `[B·F, C, H, W]`, the F frames of a sample in a row; the rest as in the 2D model. */
  forwardFrames(
    sample: Tensor,
    frames: number,
    timesteps: Tensor,
    context: Tensor,
    residuals?: Residuals,
    options: { aliased?: boolean } = {},
  ): Tensor {
    expectShape("sample", sample, ["B·F", this.config.in_channels, "H", "W"]);
    return this.run(
      sample,
      this.pass(timesteps, context, sample.size(0) / frames, frames, "allFrames"),
      residuals,
      options.aliased ?? true,
    );
  }
}
