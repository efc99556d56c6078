/**
 * BiSeNet (arXiv:1808.00897) for face parsing, 19 classes: the network of zllrunning/face-parsing.PyTorch, whose checkpoint
 * (`79999_iter.pth`) a user may bring. Always in evaluation mode.
 */
import {
  BatchNorm2d,
  cat,
  Conv2d,
  expectShape,
  maxPool2d,
  Module,
  ModuleList,
  scope,
  upsampleBilinear,
  upsampleNearest,
  type Tensor,
} from "@make-your-anchor/torch";

class ConvBNReLU extends Module {
  private readonly conv: Conv2d;
  private readonly bn: BatchNorm2d;

  constructor(inChannels: number, outChannels: number, kernel = 3) {
    super();
    this.conv = this.child("conv", new Conv2d(inChannels, outChannels, kernel, { padding: kernel >> 1, bias: false }));
    this.bn = this.child("bn", new BatchNorm2d(outChannels));
  }
  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x)).relu();
  }
}

class BasicBlock extends Module {
  private readonly conv1: Conv2d;
  private readonly bn1: BatchNorm2d;
  private readonly conv2: Conv2d;
  private readonly bn2: BatchNorm2d;
  private readonly downsample: readonly [Conv2d, BatchNorm2d] | null;

  constructor(inChannels: number, outChannels: number, stride: number) {
    super();
    this.conv1 = this.child("conv1", new Conv2d(inChannels, outChannels, 3, { stride, padding: 1, bias: false }));
    this.bn1 = this.child("bn1", new BatchNorm2d(outChannels));
    this.conv2 = this.child("conv2", new Conv2d(outChannels, outChannels, 3, { padding: 1, bias: false }));
    this.bn2 = this.child("bn2", new BatchNorm2d(outChannels));
    this.downsample =
      inChannels === outChannels && stride === 1
        ? null
        : [
            this.child("downsample.0", new Conv2d(inChannels, outChannels, 1, { stride, bias: false })),
            this.child("downsample.1", new BatchNorm2d(outChannels)),
          ];
  }
  forward(x: Tensor): Tensor {
    const y = this.bn2.forward(this.conv2.forward(this.bn1.forward(this.conv1.forward(x)).relu()));
    const [conv, bn] = this.downsample ?? [];
    return (conv && bn ? bn.forward(conv.forward(x)) : x).add(y).relu();
  }
}

const layer = (inChannels: number, outChannels: number, stride: number) =>
  new ModuleList([new BasicBlock(inChannels, outChannels, stride), new BasicBlock(outChannels, outChannels, 1)]);

class Resnet18 extends Module {
  private readonly conv1: Conv2d;
  private readonly bn1: BatchNorm2d;
  private readonly layers: readonly ModuleList<BasicBlock>[];

  constructor() {
    super();
    this.conv1 = this.child("conv1", new Conv2d(3, 64, 7, { stride: 2, padding: 3, bias: false }));
    this.bn1 = this.child("bn1", new BatchNorm2d(64));
    this.layers = [
      this.child("layer1", layer(64, 64, 1)),
      this.child("layer2", layer(64, 128, 2)),
      this.child("layer3", layer(128, 256, 2)),
      this.child("layer4", layer(256, 512, 2)),
    ];
  }
  /** Features at an eighth, a sixteenth and a thirty-second of the size. */
  forward(x: Tensor): Tensor[] {
    let y = maxPool2d(this.bn1.forward(this.conv1.forward(x)).relu(), 3, { stride: 2, padding: 1 });
    return this.layers
      .map((blocks) => {
        for (const block of blocks) y = block.forward(y);
        return y;
      })
      .slice(1);
  }
}

class AttentionRefinementModule extends Module {
  private readonly conv: ConvBNReLU;
  private readonly convAtten: Conv2d;
  private readonly bnAtten: BatchNorm2d;

  constructor(inChannels: number, outChannels: number) {
    super();
    this.conv = this.child("conv", new ConvBNReLU(inChannels, outChannels));
    this.convAtten = this.child("conv_atten", new Conv2d(outChannels, outChannels, 1, { bias: false }));
    this.bnAtten = this.child("bn_atten", new BatchNorm2d(outChannels));
  }
  forward(x: Tensor): Tensor {
    const y = this.conv.forward(x);
    return y.mul(this.bnAtten.forward(this.convAtten.forward(y.mean([2, 3], true))).sigmoid());
  }
}

const sizeOf = (t: Tensor): [number, number] => [t.size(2), t.size(3)];

class ContextPath extends Module {
  private readonly resnet: Resnet18;
  private readonly arm16: AttentionRefinementModule;
  private readonly arm32: AttentionRefinementModule;
  private readonly convHead32: ConvBNReLU;
  private readonly convHead16: ConvBNReLU;
  private readonly convAvg: ConvBNReLU;

  constructor() {
    super();
    this.resnet = this.child("resnet", new Resnet18());
    this.arm16 = this.child("arm16", new AttentionRefinementModule(256, 128));
    this.arm32 = this.child("arm32", new AttentionRefinementModule(512, 128));
    this.convHead32 = this.child("conv_head32", new ConvBNReLU(128, 128));
    this.convHead16 = this.child("conv_head16", new ConvBNReLU(128, 128));
    this.convAvg = this.child("conv_avg", new ConvBNReLU(512, 128, 1));
  }
  forward(x: Tensor): [feat8: Tensor, feat16: Tensor, feat32: Tensor] {
    const [feat8, feat16, feat32] = this.resnet.forward(x);
    const average = this.convAvg.forward(feat32.mean([2, 3], true));
    const sum32 = this.arm32.forward(feat32).add(average); // the average, everywhere
    const up32 = this.convHead32.forward(upsampleNearest(sum32, sizeOf(feat16)));
    const sum16 = this.arm16.forward(feat16).add(up32);
    const up16 = this.convHead16.forward(upsampleNearest(sum16, sizeOf(feat8)));
    return [feat8, up16, up32];
  }
}

class FeatureFusionModule extends Module {
  private readonly convblk: ConvBNReLU;
  private readonly conv1: Conv2d;
  private readonly conv2: Conv2d;

  constructor() {
    super();
    this.convblk = this.child("convblk", new ConvBNReLU(256, 256, 1));
    this.conv1 = this.child("conv1", new Conv2d(256, 64, 1, { bias: false }));
    this.conv2 = this.child("conv2", new Conv2d(64, 256, 1, { bias: false }));
  }
  forward(spatial: Tensor, context: Tensor): Tensor {
    const y = this.convblk.forward(cat([spatial, context], 1));
    const weight = this.conv2.forward(this.conv1.forward(y.mean([2, 3], true)).relu()).sigmoid();
    return y.mul(weight).add(y);
  }
}

class BiSeNetOutput extends Module {
  private readonly conv: ConvBNReLU;
  private readonly convOut: Conv2d;

  constructor(inChannels: number, middle: number, classes: number) {
    super();
    this.conv = this.child("conv", new ConvBNReLU(inChannels, middle));
    this.convOut = this.child("conv_out", new Conv2d(middle, classes, 1, { bias: false }));
  }
  forward(x: Tensor): Tensor {
    return this.convOut.forward(this.conv.forward(x));
  }
}

export class BiSeNet extends Module {
  private readonly cp: ContextPath;
  private readonly ffm: FeatureFusionModule;
  private readonly convOut: BiSeNetOutput;
  private readonly convOut16: BiSeNetOutput;
  private readonly convOut32: BiSeNetOutput;

  constructor(classes = 19) {
    super();
    this.cp = this.child("cp", new ContextPath());
    this.ffm = this.child("ffm", new FeatureFusionModule());
    this.convOut = this.child("conv_out", new BiSeNetOutput(256, 256, classes));
    this.convOut16 = this.child("conv_out16", new BiSeNetOutput(128, 64, classes));
    this.convOut32 = this.child("conv_out32", new BiSeNetOutput(128, 64, classes));
  }

  /** Of a checkpoint's keys those that carry weights. */
  static readonly rename = (key: string): string | undefined => (key.endsWith(".num_batches_tracked") ? undefined : key);

  /**
   * @param x `[B, 3, H, W]`, RGB, ImageNet's mean and deviation taken off
   * @returns class scores `[B, classes, H, W]` of the three heads; the first is the answer, the others served training
   */
  forward(x: Tensor): [main: Tensor, at16: Tensor, at32: Tensor] {
    expectShape("picture", x, ["B", 3, "H", "W"]);
    return scope(() => {
      const [feat8, up16, up32] = this.cp.forward(x);
      const large = (t: Tensor) => upsampleBilinear(t, sizeOf(x), true);
      return [
        large(this.convOut.forward(this.ffm.forward(feat8, up16))),
        large(this.convOut16.forward(up16)),
        large(this.convOut32.forward(up32)),
      ];
    });
  }
}
