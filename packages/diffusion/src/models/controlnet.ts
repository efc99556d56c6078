/** ControlNet (arXiv:2302.05543): a copy of the UNet's way down that turns condition pictures into residuals. */
import { addTo, Conv2d, expectShape, ModuleList, mulInto, noGrad, segment, type LoadOptions, type Tensor } from "@make-your-anchor/torch";
import { readConfig, requireDefaults } from "../weights/config.ts";
import { loadWeights } from "../weights/source.ts";
import type { Dropout } from "./dropout.ts";
import { ControlNetConditioningEmbedding } from "./embeddings.ts";
import type { FrameAttention } from "./transformer.ts";
import { UNetEncoder, type Residuals, type UNet2DConditionModel, type UNetConfig } from "./unet-2d-condition.ts";

export interface ControlNetConfig extends Omit<UNetConfig, "out_channels" | "up_block_types"> {
  conditioning_channels: number;
  /** Widths of the condition's convolutions; one halving between each two. */
  conditioning_embedding_out_channels: readonly number[];
}

export interface ControlNetPass {
  /** Multiplies every residual; default 1. */
  scale?: number;
  /** F, default 1. */
  frames?: number;
  over?: FrameAttention;
  /** For training. */
  dropout?: Dropout;
}

export class ControlNetModel extends UNetEncoder {
  readonly condEmbedding: ControlNetConditioningEmbedding;
  private readonly zeroDown: ModuleList<Conv2d>;
  private readonly zeroMid: Conv2d;

  constructor(config: Partial<ControlNetConfig> = {}) {
    super(config);
    requireDefaults("ControlNetModel", config as Record<string, unknown>, {
      controlnet_conditioning_channel_order: "rgb",
      global_pool_conditions: false,
    });
    const c = this.config as unknown as ControlNetConfig;
    const widths = c.block_out_channels;
    this.condEmbedding = this.child(
      "controlnet_cond_embedding",
      new ControlNetConditioningEmbedding(
        widths[0],
        config.conditioning_embedding_out_channels ?? [16, 32, 96, 256],
        config.conditioning_channels ?? 3,
      ),
    );
    const skips = [widths[0]];
    widths.forEach((width, i) => {
      for (let j = 0; j < c.layers_per_block + (i < widths.length - 1 ? 1 : 0); j++) skips.push(width);
    });
    this.zeroDown = this.child("controlnet_down_blocks", new ModuleList(skips.map((width) => new Conv2d(width, width, 1, { zero: true }))));
    this.zeroMid = this.child("controlnet_mid_block", new Conv2d(widths[widths.length - 1], widths[widths.length - 1], 1, { zero: true }));
  }

  static fromPretrained(folder: string, options: LoadOptions = {}): ControlNetModel {
    return loadWeights(new ControlNetModel(readConfig(`${folder}/config.json`)), folder, options);
  }

  /** Starts the way down from a UNet's weights, as the ControlNet paper does; the parts a UNet lacks stay as they are. */
  copyFrom(unet: UNet2DConditionModel): this {
    const theirs = unet.stateDict();
    noGrad(() => {
      for (const [name, p] of this.namedParameters()) {
        const t = theirs.get(name);
        if (t && t.shape.join() === p.shape.join()) p.set(t.clone());
      }
    });
    return this;
  }

  /**
   * @param sample    `[B·F, in_channels, H, W]`, the F frames of a sample in a row
   * @param timesteps `[B]` int64
   * @param context   `[B, M, cross_attention_dim]`
   * @param condition `[B·F, 3, 8H, 8W]` (as many halvings as the config says), values 0..1, not −1..1
   */
  forward(sample: Tensor, timesteps: Tensor, context: Tensor, condition: Tensor, options: ControlNetPass = {}): Residuals {
    expectShape("condition", condition, [
      sample.size(0),
      (this.config as unknown as ControlNetConfig).conditioning_channels ?? 3,
      "H",
      "W",
    ]);
    return this.forwardEmbedded(
      sample,
      timesteps,
      context,
      segment([condition], ([x]) => this.condEmbedding.forward(x)),
      options,
    );
  }

  /** `forward` with the condition already through `condEmbedding`, which does not depend on the timestep. */
  forwardEmbedded(sample: Tensor, timesteps: Tensor, context: Tensor, embedded: Tensor, options: ControlNetPass = {}): Residuals {
    const { scale = 1, frames = 1, over = "perFrame", dropout } = options;
    expectShape("sample", sample, ["B·F", this.config.in_channels, "H", "W"]);
    expectShape("embedded condition", embedded, [sample.size(0), this.config.block_out_channels[0], sample.size(2), sample.size(3)]);
    const pass = this.pass(timesteps, context, sample.size(0) / frames, frames, over, dropout);
    const { x, skips } = this.down(
      segment([sample, embedded], ([x, condition]) => addTo(this.convIn.forward(x), condition)),
      pass,
    );
    const mid = this.midBlock.forward(x, pass);
    const scaled = (t: Tensor, zero: Conv2d) => segment([t], ([x]) => (scale === 1 ? zero.forward(x) : mulInto(zero.forward(x), scale)));
    return { down: skips.map((skip, i) => scaled(skip, this.zeroDown.items[i])), mid: scaled(mid, this.zeroMid) };
  }
}
