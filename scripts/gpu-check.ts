/** The mini networks on CUDA against the CPU: same weights, same inputs, float32. Prints one JSON. */
import { engineInfo, fromData, Generator, noGrad, scope } from "@make-your-anchor/torch";
import { presets } from "@make-your-anchor/anchor";
import { UNet3DConditionModel } from "@make-your-anchor/diffusion";

const info = engineInfo();
if (!info.cuda) {
  console.log(JSON.stringify({ gpu: true, cuda: false, note: `libtorch ${info.version} was built without CUDA` }));
  process.exit(1);
}
const result = scope(() =>
  noGrad(() => {
    using g = new Generator(1);
    const unet = new UNet3DConditionModel(presets.mini.models!.unet).initialize(g);
    const c = unet.config;
    const x = g.randn([4, c.in_channels, 32, 32]);
    const t = fromData(BigInt64Array.from([500n]), [1]);
    const context = g.randn([1, 50, c.cross_attention_dim]);
    const cpu = unet.forwardFrames(x, 4, t, context);
    unet.to("cuda:0");
    const gpu = unet.forwardFrames(x.to("cuda:0"), 4, t.to("cuda:0"), context.to("cuda:0")).to("cpu");
    return { worst: gpu.sub(cpu).abs().max().item(), largest: cpu.abs().max().item() };
  }),
);
// cuDNN convolutions may use TF32: three decimal digits.
const ok = result.worst <= 5e-3 * Math.max(1, result.largest);
console.log(JSON.stringify({ gpu: true, cuda: true, torch: info.version, ok, ...result }));
process.exit(ok ? 0 : 1);
