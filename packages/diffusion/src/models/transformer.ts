/** Spatial transformers of UNet and ControlNet, for pictures and for frames of a video. */
import {
  addTo,
  attention,
  cat,
  Conv2d,
  gradEnabled,
  GroupNorm,
  LayerNorm,
  Linear,
  Module,
  ModuleList,
  mulInto,
  scope,
  type Tensor,
} from "@make-your-anchor/torch";

/** Self-attention sees its own frame's tokens, or those of all frames of the sample. */
export type FrameAttention = "perFrame" | "allFrames";

export class Attention extends Module {
  private readonly heads: number;
  private readonly toQ: Linear;
  private readonly toK: Linear;
  private readonly toV: Linear;
  private readonly toOut: ModuleList<Linear>;

  constructor(channels: number, contextChannels: number, heads: number, options: { bias?: boolean } = {}) {
    super();
    const bias = options.bias ?? false;
    this.heads = heads;
    this.toQ = this.child("to_q", new Linear(channels, channels, { bias }));
    this.toK = this.child("to_k", new Linear(contextChannels, channels, { bias }));
    this.toV = this.child("to_v", new Linear(contextChannels, channels, { bias }));
    this.toOut = this.child("to_out", new ModuleList([new Linear(channels, channels)]));
  }
  /** `x` `[B, N, C]` attends to `context` `[B, M, C']`, itself when left out → `[B, N, C]`. */
  forward(x: Tensor, context: Tensor = x): Tensor {
    const y = attention(this.toQ.forward(x), this.toK.forward(context), this.toV.forward(context), this.heads);
    return this.toOut.items[0].forward(y);
  }
}

class GEGLU extends Module {
  private readonly proj: Linear;

  constructor(channels: number, inner: number) {
    super();
    this.proj = this.child("proj", new Linear(channels, inner * 2));
  }
  forward(x: Tensor): Tensor {
    const [value, gate] = this.proj.forward(x).chunk(2, -1);
    return mulInto(gate.gelu(), value);
  }
}

/** Numbers of a feed-forward's hidden layer alive at once: 16 MB of float32, which the processor's cache may hold. */
const hiddenNumbers = 4 << 20;

class FeedForward extends Module {
  private readonly gated: GEGLU;
  private readonly out: Linear;

  constructor(channels: number) {
    super();
    this.gated = this.child("net.0", new GEGLU(channels, channels * 4));
    this.out = this.child("net.2", new Linear(channels * 4, channels));
  }
  /** `[B, N, C]` → the same. Without gradients by chunks of tokens, for the hidden layer is eight times as wide. */
  forward(x: Tensor): Tensor {
    const [b, n, c] = x.shape;
    const rows = Math.floor(hiddenNumbers / (8 * c));
    if (gradEnabled() || b * n <= rows) return this.out.forward(this.gated.forward(x));
    const parts = x
      .reshape([b * n, c])
      .split(rows)
      .map((part) => scope(() => this.out.forward(this.gated.forward(part))));
    return cat(parts, 0).reshape([b, n, c]);
  }
}

class BasicTransformerBlock extends Module {
  private readonly norm1: LayerNorm;
  private readonly attn1: Attention;
  private readonly norm2: LayerNorm;
  private readonly attn2: Attention;
  private readonly norm3: LayerNorm;
  private readonly ff: FeedForward;

  constructor(channels: number, contextChannels: number, heads: number) {
    super();
    this.norm1 = this.child("norm1", new LayerNorm(channels, 1e-5));
    this.attn1 = this.child("attn1", new Attention(channels, channels, heads));
    this.norm2 = this.child("norm2", new LayerNorm(channels, 1e-5));
    this.attn2 = this.child("attn2", new Attention(channels, contextChannels, heads));
    this.norm3 = this.child("norm3", new LayerNorm(channels, 1e-5));
    this.ff = this.child("ff", new FeedForward(channels));
  }

  /**
   * `x` `[B, F·N, C]`, `context` `[B, M, C']`. Cross-attention and feed-forward treat each token by itself, so the frames need not
   * be taken apart for them and the context's keys and values are computed once a sample.
   */
  forward(x: Tensor, context: Tensor, frames: number, over: FrameAttention): Tensor {
    const [b, n, c] = x.shape;
    const perFrame = over === "perFrame" && frames > 1;
    const first = scope(() => {
      const normed = this.norm1.forward(x);
      if (!perFrame) return addTo(this.attn1.forward(normed), x);
      return addTo(this.attn1.forward(normed.reshape([b * frames, n / frames, c])).reshape([b, n, c]), x);
    });
    const second = scope(() => addTo(this.attn2.forward(this.norm2.forward(first), context), first));
    return scope(() => addTo(this.ff.forward(this.norm3.forward(second)), second));
  }
}

/** One spatial transformer: norm and projections per frame, blocks over the pixels. */
export class Transformer2DModel extends Module {
  private readonly norm: GroupNorm;
  private readonly projIn: Conv2d;
  private readonly blocks: ModuleList<BasicTransformerBlock>;
  private readonly projOut: Conv2d;

  constructor(channels: number, contextChannels: number, heads: number, groups: number, layers = 1) {
    super();
    // 1e-6 here, 1e-5 in the resnets: as published.
    this.norm = this.child("norm", new GroupNorm(groups, channels, 1e-6));
    this.projIn = this.child("proj_in", new Conv2d(channels, channels, 1));
    this.blocks = this.child(
      "transformer_blocks",
      new ModuleList(Array.from({ length: layers }, () => new BasicTransformerBlock(channels, contextChannels, heads))),
    );
    this.projOut = this.child("proj_out", new Conv2d(channels, channels, 1));
  }

  /** `x` `[B·F, C, H, W]`, `context` `[B, M, C']` → `[B·F, C, H, W]`. */
  forward(x: Tensor, context: Tensor, frames: number, over: FrameAttention): Tensor {
    const [n, c, h, w] = x.shape;
    let y = this.projIn.forward(this.norm.forward(x));
    y = y.permute([0, 2, 3, 1]).reshape([n / frames, frames * h * w, c]); // [B, F·H·W, C]
    for (const block of this.blocks) y = scope(() => block.forward(y, context, frames, over));
    y = y.reshape([n, h, w, c]).permute([0, 3, 1, 2]).contiguous();
    return addTo(this.projOut.forward(y), x);
  }
}
