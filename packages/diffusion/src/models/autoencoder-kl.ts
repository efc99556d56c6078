/** Stable Diffusion's VAE: pictures to latents of a fraction of the size, and back. */
import {
  addTo,
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
import { Downsample2D, ResnetBlock2D, Upsample2D } from "./resnet.ts";
import { Attention } from "./transformer.ts";

export interface AutoencoderKLConfig {
  in_channels: number;
  out_channels: number;
  block_out_channels: readonly number[];
  layers_per_block: number;
  latent_channels: number;
  norm_num_groups: number;
  /** Latents times this have unit variance. Published SD 1.5 files lack it. */
  scaling_factor: number;
}

export const autoencoderDefaults: AutoencoderKLConfig = {
  in_channels: 3,
  out_channels: 3,
  block_out_channels: [128, 256, 512, 512],
  layers_per_block: 2,
  latent_channels: 4,
  norm_num_groups: 32,
  scaling_factor: 0.18215,
};

const eps = 1e-6; // every norm of the VAE

/** The mid block's attention: one head over all channels. */
class SpatialAttention extends Attention {
  private readonly groupNorm: GroupNorm;

  constructor(channels: number, groups: number) {
    super(channels, channels, 1, { bias: true });
    this.groupNorm = this.child("group_norm", new GroupNorm(groups, channels, eps));
  }
  override forward(x: Tensor): Tensor {
    const [b, c, h, w] = x.shape;
    const tokens = this.groupNorm
      .forward(x)
      .reshape([b, c, h * w])
      .transpose(1, 2); // [B, H·W, C]
    return addTo(super.forward(tokens.contiguous()).transpose(1, 2).reshape([b, c, h, w]), x);
  }
}

class VaeMid extends Module {
  private readonly attentions: ModuleList<SpatialAttention>;
  private readonly resnets: ModuleList<ResnetBlock2D>;

  constructor(channels: number, groups: number) {
    super();
    const resnet = () => new ResnetBlock2D(channels, channels, { groups, eps, timeChannels: null });
    this.attentions = this.child("attentions", new ModuleList([new SpatialAttention(channels, groups)]));
    this.resnets = this.child("resnets", new ModuleList([resnet(), resnet()]));
  }
  forward(x: Tensor): Tensor {
    return this.resnets.items[1].forward(this.attentions.items[0].forward(this.resnets.items[0].forward(x, null)), null);
  }
}

/** A level of encoder or decoder: resnets, then a change of size but for the last. */
class VaeLevel extends Module {
  private readonly resnets: ModuleList<ResnetBlock2D>;
  private readonly resample: Downsample2D | Upsample2D | null;

  constructor(inChannels: number, outChannels: number, layers: number, groups: number, resample: "down" | "up" | null) {
    super();
    const resnets = Array.from(
      { length: layers },
      (_, i) => new ResnetBlock2D(i === 0 ? inChannels : outChannels, outChannels, { groups, eps, timeChannels: null }),
    );
    this.resnets = this.child("resnets", new ModuleList(resnets));
    if (resample === "down") this.resample = this.child("downsamplers", new ModuleList([new Downsample2D(outChannels, true)])).items[0];
    else if (resample === "up") this.resample = this.child("upsamplers", new ModuleList([new Upsample2D(outChannels)])).items[0];
    else this.resample = null;
  }
  forward(x: Tensor): Tensor {
    let y = x;
    for (const resnet of this.resnets) y = segment([y], ([x]) => resnet.forward(x, null));
    const { resample } = this;
    return resample ? segment([y], ([x]) => resample.forward(x)) : y;
  }
}

class Encoder extends Module {
  private readonly convIn: Conv2d;
  private readonly downBlocks: ModuleList<VaeLevel>;
  private readonly midBlock: VaeMid;
  private readonly normOut: GroupNorm;
  private readonly convOut: Conv2d;

  constructor(c: AutoencoderKLConfig) {
    super();
    const widths = c.block_out_channels;
    const last = widths[widths.length - 1];
    this.convIn = this.child("conv_in", new Conv2d(c.in_channels, widths[0], 3, { padding: 1 }));
    const levels = widths.map(
      (width, i) =>
        new VaeLevel(widths[Math.max(0, i - 1)], width, c.layers_per_block, c.norm_num_groups, i < widths.length - 1 ? "down" : null),
    );
    this.downBlocks = this.child("down_blocks", new ModuleList(levels));
    this.midBlock = this.child("mid_block", new VaeMid(last, c.norm_num_groups));
    this.normOut = this.child("conv_norm_out", new GroupNorm(c.norm_num_groups, last, eps));
    this.convOut = this.child("conv_out", new Conv2d(last, c.latent_channels * 2, 3, { padding: 1 }));
  }
  forward(x: Tensor): Tensor {
    let y = segment([x], ([x]) => this.convIn.forward(x));
    for (const level of this.downBlocks) y = level.forward(y);
    y = segment([y], ([x]) => this.midBlock.forward(x));
    return segment([y], ([x]) => this.convOut.forward(siluOf(this.normOut.forward(x))));
  }
}

class Decoder extends Module {
  private readonly convIn: Conv2d;
  private readonly midBlock: VaeMid;
  private readonly upBlocks: ModuleList<VaeLevel>;
  private readonly normOut: GroupNorm;
  private readonly convOut: Conv2d;

  constructor(c: AutoencoderKLConfig) {
    super();
    const widths = [...c.block_out_channels].reverse();
    this.convIn = this.child("conv_in", new Conv2d(c.latent_channels, widths[0], 3, { padding: 1 }));
    this.midBlock = this.child("mid_block", new VaeMid(widths[0], c.norm_num_groups));
    const levels = widths.map(
      (width, i) =>
        new VaeLevel(widths[Math.max(0, i - 1)], width, c.layers_per_block + 1, c.norm_num_groups, i < widths.length - 1 ? "up" : null),
    );
    this.upBlocks = this.child("up_blocks", new ModuleList(levels));
    this.normOut = this.child("conv_norm_out", new GroupNorm(c.norm_num_groups, widths[widths.length - 1], eps));
    this.convOut = this.child("conv_out", new Conv2d(widths[widths.length - 1], c.out_channels, 3, { padding: 1 }));
  }
  forward(z: Tensor): Tensor {
    let y = segment([z], ([z]) => this.midBlock.forward(this.convIn.forward(z)));
    for (const level of this.upBlocks) y = level.forward(y);
    return segment([y], ([x]) => this.convOut.forward(siluOf(this.normOut.forward(x))));
  }
}

/** A normal distribution for each latent number. */
export interface Posterior {
  /** `[B, latent_channels, h, w]`, before the scaling factor. */
  readonly mean: Tensor;
  /** Logarithm of the variance, clamped to −30..20. */
  readonly logvar: Tensor;
}

/** mean + std · noise. */
export const samplePosterior = ({ mean, logvar }: Posterior, noise: Tensor): Tensor => mean.add(logvar.mul(0.5).exp().mul(noise));

/** Names that published SD 1.5 files give the attention's weights. */
const legacyNames: readonly (readonly [RegExp, string])[] = [
  [/\.query\./, ".to_q."],
  [/\.key\./, ".to_k."],
  [/\.value\./, ".to_v."],
  [/\.proj_attn\./, ".to_out.0."],
];

export class AutoencoderKL extends Module {
  readonly config: AutoencoderKLConfig & Record<string, unknown>;
  private readonly encoder: Encoder;
  private readonly decoder: Decoder;
  private readonly quantConv: Conv2d;
  private readonly postQuantConv: Conv2d;

  constructor(config: Partial<AutoencoderKLConfig> & Record<string, unknown> = {}) {
    super();
    requireDefaults("AutoencoderKL", config, { act_fn: "silu" });
    for (const type of [config.down_block_types, config.up_block_types].flat()) {
      if (type !== undefined && type !== "DownEncoderBlock2D" && type !== "UpDecoderBlock2D")
        throw new ConfigError(`AutoencoderKL: block type ${String(type)} is not supported`);
    }
    this.config = { ...autoencoderDefaults, ...config };
    const c = this.config;
    this.encoder = this.child("encoder", new Encoder(c));
    this.decoder = this.child("decoder", new Decoder(c));
    this.quantConv = this.child("quant_conv", new Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1));
    this.postQuantConv = this.child("post_quant_conv", new Conv2d(c.latent_channels, c.latent_channels, 1));
  }

  /** Reads a diffusers folder, the attention's weights under new or old names. */
  static fromPretrained(folder: string, options: LoadOptions = {}): AutoencoderKL {
    const rename = (key: string) => legacyNames.reduce((k, [from, to]) => (k.includes(".attentions.") ? k.replace(from, to) : k), key);
    return loadWeights(new AutoencoderKL(readConfig(`${folder}/config.json`)), folder, { rename, ...options });
  }

  /** How many times smaller latents are than pictures. */
  get factor(): number {
    return 2 ** (this.config.block_out_channels.length - 1);
  }

  /** `[B, 2·latent_channels, h, w]`: mean and raw log variance. */
  moments(x: Tensor): Tensor {
    expectShape("picture", x, ["B", this.config.in_channels, "H", "W"]);
    return this.quantConv.forward(this.encoder.forward(x));
  }
  /** `x` `[B, 3, H, W]`, values −1..1. */
  encode(x: Tensor): Posterior {
    const [mean, logvar] = this.moments(x).chunk(2, 1);
    return { mean, logvar: logvar.clamp(-30, 20) };
  }
  /** Latents `[B, latent_channels, h, w]`, already divided by the scaling factor → `[B, 3, H, W]`, about −1..1, not clamped. */
  decode(z: Tensor): Tensor {
    expectShape("latents", z, ["B", this.config.latent_channels, "h", "w"]);
    return this.decoder.forward(this.postQuantConv.forward(z));
  }
}
