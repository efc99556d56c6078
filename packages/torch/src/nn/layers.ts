/** Layers under the parameter names torch gives them: `weight` and `bias`. */
import { batchNorm, cat, conv2d, embedding, groupNorm, groupNormOverFrames, layerNorm, linear } from "../functional.ts";
import { gradEnabled, scope } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { constant, Module, normal, uniformFanIn, type Parameter } from "./module.ts";

export interface Conv2dOptions {
  stride?: number;
  padding?: number;
  bias?: boolean;
  /** Start from zeros: ControlNet's zero convolutions. */
  zero?: boolean;
}

export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  private readonly stride: number;
  private readonly padding: number;

  constructor(inChannels: number, outChannels: number, kernel: number, options: Conv2dOptions = {}) {
    super();
    const init = options.zero ? constant(0) : uniformFanIn(inChannels * kernel * kernel);
    this.weight = this.param("weight", [outChannels, inChannels, kernel, kernel], init);
    this.bias = options.bias === false ? null : this.param("bias", [outChannels], init);
    this.stride = options.stride ?? 1;
    this.padding = options.padding ?? 0;
  }
  /** `[B, C, H, W]` → `[B, outChannels, H', W']`. */
  forward(x: Tensor): Tensor {
    const weight = this.weight.adapted();
    const bias = this.bias ? this.bias.value : null;
    const outs = outsAtOnce(x, weight);
    if (outs >= weight.size(0)) return conv2d(x, weight, bias, this.stride, this.padding);
    return scope(() => {
      const biases = bias?.split(outs);
      return cat(
        weight.split(outs).map((part, i) => conv2d(x, part, biases ? biases[i] : null, this.stride, this.padding)),
        1,
      );
    });
  }
}

/**
 * Output channels of a convolution to compute at once. The processor's convolutions bring the weights into an order of their own first.
 * Where there are more weights than pixels to use them on, a copy of all of them (118 MB in the largest layer of Stable Diffusion) goes
 * through the memory and not the cache: parts of 6 MB are up to a fifth faster, and take that much less.
 */
function outsAtOnce(x: Tensor, weight: Tensor): number {
  const [outs, ins, kh, kw] = weight.shape;
  const [b, , height, width] = x.shape;
  if (outs * ins * kh * kw < 8e6 || b * height * width > 512 || x.device !== "cpu" || gradEnabled()) return outs;
  return Math.max(16, Math.floor(1.5e6 / (16 * ins * kh * kw)) * 16);
}

export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    super();
    this.weight = this.param("weight", [outFeatures, inFeatures], uniformFanIn(inFeatures));
    this.bias = options.bias === false ? null : this.param("bias", [outFeatures], uniformFanIn(inFeatures));
  }
  /** `[..., inFeatures]` → `[..., outFeatures]`. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight.adapted(), this.bias ? this.bias.value : null);
  }
}

/** Under autocast what comes in is halved and a norm's weights are not: norms want the range, and some of libtorch's refuse the mixture. */
const inOwnPrecision = (x: Tensor, weight: Tensor): Tensor => (x.dtype === weight.dtype ? x : x.to(weight.dtype));

export class GroupNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly groups: number;
  readonly eps: number;

  constructor(groups: number, channels: number, eps: number) {
    super();
    this.weight = this.param("weight", [channels], constant(1));
    this.bias = this.param("bias", [channels], constant(0));
    this.groups = groups;
    this.eps = eps;
  }
  /** `[B, C, H, W]` → the same; with `frames`, `[B·F, C, H, W]` and statistics over the F frames of a sample together. */
  forward(x: Tensor, frames = 1): Tensor {
    const y = inOwnPrecision(x, this.weight.value);
    return frames === 1
      ? groupNorm(y, this.groups, this.weight.value, this.bias.value, this.eps)
      : groupNormOverFrames(y, frames, this.groups, this.weight.value, this.bias.value, this.eps);
  }
}

/** Batch normalisation in evaluation mode: by the statistics it was trained to. */
export class BatchNorm2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly runningMean: Parameter;
  readonly runningVar: Parameter;
  readonly eps: number;

  constructor(channels: number, eps = 1e-5) {
    super();
    this.weight = this.param("weight", [channels], constant(1));
    this.bias = this.param("bias", [channels], constant(0));
    this.runningMean = this.param("running_mean", [channels], constant(0));
    this.runningVar = this.param("running_var", [channels], constant(1));
    this.eps = eps;
  }
  /** `[B, C, H, W]` → the same. */
  forward(x: Tensor): Tensor {
    return batchNorm(x, this.weight.value, this.bias.value, this.runningMean.value, this.runningVar.value, this.eps);
  }
}

export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly eps: number;

  constructor(size: number, eps: number) {
    super();
    this.weight = this.param("weight", [size], constant(1));
    this.bias = this.param("bias", [size], constant(0));
    this.eps = eps;
  }
  forward(x: Tensor): Tensor {
    return layerNorm(inOwnPrecision(x, this.weight.value), this.weight.value, this.bias.value, this.eps);
  }
}

export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, size: number, std = 0.02) {
    super();
    this.weight = this.param("weight", [count, size], normal(std));
  }
  /** int64 indices `[...]` → `[..., size]`. */
  forward(indices: Tensor): Tensor {
    return embedding(this.weight.value, indices);
  }
}

/** Parts under the names `"0"`, `"1"`, … */
export class ModuleList<T extends Module> extends Module implements Iterable<T> {
  readonly items: readonly T[];

  constructor(items: readonly T[]) {
    super();
    this.items = items;
    items.forEach((m, i) => this.child(String(i), m));
  }
  get length(): number {
    return this.items.length;
  }
  [Symbol.iterator](): Iterator<T> {
    return this.items[Symbol.iterator]();
  }
}
