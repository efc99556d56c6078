/**
 * Levels of UNet and ControlNet. Each layer is a segment: it frees what it made on the way as it ends, for a window's activations must
 * not pile up, and training with checkpoints can run it again.
 */
import { cat, Module, ModuleList, segment, type Tensor } from "@make-your-anchor/torch";
import type { Dropout } from "./dropout.ts";
import { Downsample2D, ResnetBlock2D, Upsample2D, type ResnetOptions } from "./resnet.ts";
import { Transformer2DModel, type FrameAttention } from "./transformer.ts";

/** What every level needs to be built. */
export interface LevelOptions extends ResnetOptions {
  contextChannels: number;
  transformerLayers: number;
}

/** What every level is told when it runs. */
export interface Pass {
  /** `[B, T]` time embedding through SiLU. */
  time: Tensor;
  /** `[B, M, C']`. */
  context: Tensor;
  frames: number;
  over: FrameAttention;
  dropout?: Dropout;
}

const transformers = (channels: number, heads: number, count: number, o: LevelOptions) =>
  new ModuleList(
    Array.from({ length: count }, () => new Transformer2DModel(channels, o.contextChannels, heads, o.groups, o.transformerLayers)),
  );

/** `CrossAttnDownBlock2D` (with `heads`) or `DownBlock2D` (without). */
export class DownBlock extends Module {
  private readonly attentions: ModuleList<Transformer2DModel> | null;
  private readonly resnets: ModuleList<ResnetBlock2D>;
  private readonly downsamplers: ModuleList<Downsample2D> | null;

  constructor(inChannels: number, outChannels: number, layers: number, heads: number | null, down: boolean, o: LevelOptions) {
    super();
    this.attentions = heads === null ? null : this.child("attentions", transformers(outChannels, heads, layers, o));
    this.resnets = this.child(
      "resnets",
      new ModuleList(Array.from({ length: layers }, (_, i) => new ResnetBlock2D(i === 0 ? inChannels : outChannels, outChannels, o))),
    );
    this.downsamplers = down ? this.child("downsamplers", new ModuleList([new Downsample2D(outChannels)])) : null;
  }

  /** Appends every layer's output to `skips` and returns the last. */
  forward(x: Tensor, skips: Tensor[], { time, context, frames, over, dropout }: Pass): Tensor {
    let y = x;
    this.resnets.items.forEach((resnet, i) => {
      y = segment([y, time, context], ([x, time, context]) => {
        const made = resnet.forward(x, time, frames, dropout);
        return this.attentions ? this.attentions.items[i].forward(made, context, frames, over) : made;
      });
      skips.push(y);
    });
    if (this.downsamplers) {
      y = segment([y], ([x]) => this.downsamplers!.items[0].forward(x));
      skips.push(y);
    }
    return y;
  }
}

/** `UNetMidBlock2DCrossAttn`. */
export class MidBlock extends Module {
  private readonly attentions: ModuleList<Transformer2DModel>;
  private readonly resnets: ModuleList<ResnetBlock2D>;

  constructor(channels: number, heads: number, o: LevelOptions) {
    super();
    this.attentions = this.child("attentions", transformers(channels, heads, 1, o));
    this.resnets = this.child(
      "resnets",
      new ModuleList([new ResnetBlock2D(channels, channels, o), new ResnetBlock2D(channels, channels, o)]),
    );
  }
  forward(x: Tensor, { time, context, frames, over, dropout }: Pass): Tensor {
    return segment([x, time, context], ([x, time, context]) => {
      const y = this.attentions.items[0].forward(this.resnets.items[0].forward(x, time, frames, dropout), context, frames, over);
      return this.resnets.items[1].forward(y, time, frames, dropout);
    });
  }
}

/** `CrossAttnUpBlock2D` (with `heads`) or `UpBlock2D` (without). */
export class UpBlock extends Module {
  private readonly attentions: ModuleList<Transformer2DModel> | null;
  private readonly resnets: ModuleList<ResnetBlock2D>;
  private readonly upsamplers: ModuleList<Upsample2D> | null;

  /** `inputs` are the resnets' input widths, skip connections included. */
  constructor(inputs: readonly number[], outChannels: number, heads: number | null, up: boolean, o: LevelOptions) {
    super();
    this.attentions = heads === null ? null : this.child("attentions", transformers(outChannels, heads, inputs.length, o));
    this.resnets = this.child("resnets", new ModuleList(inputs.map((width) => new ResnetBlock2D(width, outChannels, o))));
    this.upsamplers = up ? this.child("upsamplers", new ModuleList([new Upsample2D(outChannels)])) : null;
  }

  /** Takes its skip connections off the end of `skips`; upsamples to the size of the next one left there. */
  forward(x: Tensor, skips: Tensor[], { time, context, frames, over, dropout }: Pass): Tensor {
    let y = x;
    this.resnets.items.forEach((resnet, i) => {
      y = segment([y, skips.pop()!, time, context], ([x, skip, time, context]) => {
        const made = resnet.forward(cat([x, skip], 1), time, frames, dropout);
        return this.attentions ? this.attentions.items[i].forward(made, context, frames, over) : made;
      });
    });
    if (!this.upsamplers) return y;
    const next = skips[skips.length - 1];
    const size = [next.size(2), next.size(3)] as const;
    return segment([y], ([x]) => this.upsamplers!.items[0].forward(x, size));
  }
}
