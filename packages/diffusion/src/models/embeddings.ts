/** Time and condition embeddings. */
import { arange, cat, Conv2d, gradEnabled, Linear, Module, ModuleList, scope, siluOf, type Tensor } from "@make-your-anchor/torch";

/**
 * Sinusoidal features of timesteps `[B]` → `[B, size]` float32 (DDPM, arXiv:2006.11239). Cosines come first with
 * `flipSinToCos`, as in every Stable Diffusion.
 */
export function timestepFeatures(timesteps: Tensor, size: number, flipSinToCos = true, freqShift = 0): Tensor {
  const half = size / 2;
  const frequencies = arange(0, half, 1, { device: timesteps.device })
    .mul(-Math.log(10000) / (half - freqShift))
    .exp();
  const angles = timesteps.to("float32").unsqueeze(1).mul(frequencies.unsqueeze(0));
  return flipSinToCos ? cat([angles.cos(), angles.sin()], 1) : cat([angles.sin(), angles.cos()], 1);
}

/** Two-layer MLP from the sinusoidal features to the resnets' conditioning width. */
export class TimestepEmbedding extends Module {
  private readonly linear1: Linear;
  private readonly linear2: Linear;

  constructor(inChannels: number, embedDim: number) {
    super();
    this.linear1 = this.child("linear_1", new Linear(inChannels, embedDim));
    this.linear2 = this.child("linear_2", new Linear(embedDim, embedDim));
  }
  /** `[B, inChannels]` → `[B, embedDim]`. */
  forward(features: Tensor): Tensor {
    return this.linear2.forward(this.linear1.forward(features).silu());
  }
}

/** Numbers of the condition embedding's widest map alive at once: 8 MB of float32. */
const mapNumbers = 2 << 20;

/** Condition pictures to feature maps of the latents' size: one convolution pair a halving. The last one starts from zeros. */
export class ControlNetConditioningEmbedding extends Module {
  private readonly convIn: Conv2d;
  private readonly blocks: ModuleList<Conv2d>;
  private readonly convOut: Conv2d;

  constructor(outChannels: number, widths: readonly number[], inChannels: number) {
    super();
    this.convIn = this.child("conv_in", new Conv2d(inChannels, widths[0], 3, { padding: 1 }));
    const blocks: Conv2d[] = [];
    for (let i = 0; i + 1 < widths.length; i++) {
      blocks.push(new Conv2d(widths[i], widths[i], 3, { padding: 1 }), new Conv2d(widths[i], widths[i + 1], 3, { padding: 1, stride: 2 }));
    }
    this.blocks = this.child("blocks", new ModuleList(blocks));
    this.convOut = this.child("conv_out", new Conv2d(widths[widths.length - 1], outChannels, 3, { padding: 1, zero: true }));
  }
  /** `[B, 3, H, W]`, values 0..1 → `[B, outChannels, H/2ⁿ, W/2ⁿ]`. Without gradients a few pictures at a time on the CPU: nowhere are a window's maps as large. */
  forward(x: Tensor): Tensor {
    const [b, , height, width] = x.shape;
    const pictures = Math.max(1, Math.floor(mapNumbers / (this.convIn.weight.value.size(0) * height * width)));
    if (b <= pictures || gradEnabled() || x.device !== "cpu") return this.embed(x);
    return cat(
      x.split(pictures).map((part) => scope(() => this.embed(part))),
      0,
    );
  }
  private embed(x: Tensor): Tensor {
    let y = scope(() => siluOf(this.convIn.forward(x)));
    for (const conv of this.blocks) y = scope(() => siluOf(conv.forward(y)));
    return this.convOut.forward(y);
  }
}
