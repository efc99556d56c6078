/** Residual blocks and resampling, shared by UNet, ControlNet and VAE. */
import { addTo, Conv2d, GroupNorm, Linear, Module, scope, siluOf, upsampleNearest, type Tensor } from "@make-your-anchor/torch";
import type { Dropout } from "./dropout.ts";

export interface ResnetOptions {
  groups: number;
  eps: number;
  /** Width of the time embedding; null in the VAE, which has none. */
  timeChannels: number | null;
}

export class ResnetBlock2D extends Module {
  private readonly norm1: GroupNorm;
  private readonly conv1: Conv2d;
  private readonly timeProj: Linear | null;
  private readonly norm2: GroupNorm;
  private readonly conv2: Conv2d;
  private readonly shortcut: Conv2d | null;

  constructor(inChannels: number, outChannels: number, { groups, eps, timeChannels }: ResnetOptions) {
    super();
    this.norm1 = this.child("norm1", new GroupNorm(groups, inChannels, eps));
    this.conv1 = this.child("conv1", new Conv2d(inChannels, outChannels, 3, { padding: 1 }));
    this.timeProj = timeChannels === null ? null : this.child("time_emb_proj", new Linear(timeChannels, outChannels));
    this.norm2 = this.child("norm2", new GroupNorm(groups, outChannels, eps));
    this.conv2 = this.child("conv2", new Conv2d(outChannels, outChannels, 3, { padding: 1 }));
    this.shortcut = inChannels === outChannels ? null : this.child("conv_shortcut", new Conv2d(inChannels, outChannels, 1));
  }

  /**
   * `x` `[B·F, C, H, W]` → `[B·F, outChannels, H, W]`. `time` `[B, timeChannels]`, already through SiLU. Statistics of the norms
   * span the `frames` of a sample. `dropout` acts before the second convolution.
   */
  forward(x: Tensor, time: Tensor | null, frames = 1, dropout?: Dropout): Tensor {
    // A scope around each part: at full size every intermediate is hundreds of megabytes.
    const first = scope(() => {
      const y = this.conv1.forward(scope(() => siluOf(this.norm1.forward(x, frames))));
      if (!this.timeProj || !time) return y;
      const shift = this.timeProj.forward(time); // [B, C]
      return addTo(y, perFrame(shift, frames).unsqueeze(2).unsqueeze(3));
    });
    const second = scope(() => {
      const y = scope(() => siluOf(this.norm2.forward(first, frames)));
      return this.conv2.forward(dropout ? dropout.apply(y, this) : y);
    });
    return scope(() => addTo(second, this.shortcut ? this.shortcut.forward(x) : x));
  }
}

/** `[B, ...]` → `[B·F, ...]`, each row F times. */
export function perFrame(t: Tensor, frames: number): Tensor {
  if (frames === 1) return t;
  const [b, ...rest] = t.shape;
  return t
    .unsqueeze(1)
    .expand([b, frames, ...rest])
    .reshape([b * frames, ...rest]);
}

export class Downsample2D extends Module {
  private readonly conv: Conv2d;
  private readonly asymmetric: boolean;

  /** `asymmetric` pads right and bottom only, as the VAE's encoder does. */
  constructor(channels: number, asymmetric = false) {
    super();
    this.conv = this.child("conv", new Conv2d(channels, channels, 3, { stride: 2, padding: asymmetric ? 0 : 1 }));
    this.asymmetric = asymmetric;
  }
  forward(x: Tensor): Tensor {
    return this.conv.forward(this.asymmetric ? x.pad([0, 1, 0, 1]) : x);
  }
}

export class Upsample2D extends Module {
  private readonly conv: Conv2d;

  constructor(channels: number) {
    super();
    this.conv = this.child("conv", new Conv2d(channels, channels, 3, { padding: 1 }));
  }
  /** To twice the size, or to `size` (the skip connection's, where that is odd). */
  forward(x: Tensor, size?: readonly [number, number]): Tensor {
    return this.conv.forward(upsampleNearest(x, size));
  }
}
