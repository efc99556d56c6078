/** What is measured: ControlNet and UNet at block_out_channels 64, 128, 256 and context width 256, as the Python peer has them. */
import { AdamW, backward, clipGradNorm, fromData, Generator, noGrad, scope } from "@make-your-anchor/torch";
import { emptyMotion, mannequin, Poser, Rasteriser } from "@make-your-anchor/body";
import { bodyLoss, ControlNetModel, DDPMScheduler, UNet3DConditionModel } from "@make-your-anchor/diffusion";

const config = {
  block_out_channels: [64, 128, 256],
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  cross_attention_dim: 256,
};

function models() {
  using g = new Generator(0);
  const unet = new UNet3DConditionModel({
    ...config,
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  }).initialize(g);
  // Four halvings less one: the peer's condition embedding, whatever the depth of the UNet.
  const controlnet = new ControlNetModel({ ...config, conditioning_embedding_out_channels: [16, 32, 96, 256] }).initialize(g);
  return { unet, controlnet };
}

/** Seconds of each repeat of `run`, after `warmup` more. */
function repeat(warmup: number, count: number, run: () => void): number[] {
  const times: number[] = [];
  for (let i = 0; i < warmup + count; i++) {
    const from = performance.now();
    scope(run);
    if (i >= warmup) times.push((performance.now() - from) / 1000);
  }
  return times;
}

const times = (n: number, t: number) =>
  fromData(
    BigInt64Array.from({ length: n }, () => BigInt(t)),
    [n],
  );

function infer(warmup: number, count: number, batch: number, side: number, frames: number, scale: number): number[] {
  const { unet, controlnet } = models();
  const g = new Generator(1);
  const x = g.randn([batch * frames, 4, side, side]);
  const context = g.randn([batch, 50, 256]);
  const image = g.rand([batch * frames, 3, side * 8, side * 8]);
  const t = times(batch, 501);
  return noGrad(() =>
    repeat(warmup, count, () => {
      const residuals = controlnet.forward(x, t, context, image, { scale, frames });
      unet.forwardFrames(x, frames, t, context, residuals);
    }),
  );
}

export const measurements = {
  "infer-mini": (warmup: number, count: number) => infer(warmup, count, 4, 32, 1, 1),
  "window-mini": (warmup: number, count: number) => infer(warmup, count, 2, 16, 16, 2),
  "train-mini": (warmup: number, count: number) => {
    const { unet, controlnet } = models();
    unet.requiresGrad_();
    controlnet.requiresGrad_();
    const optimizer = new AdamW([...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")], { lr: 1e-5 });
    const scheduler = new DDPMScheduler();
    const g = new Generator(1);
    const batch = {
      latents: g.randn([4, 4, 32, 32]),
      noise: g.randn([4, 4, 32, 32]),
      timesteps: [10, 300, 600, 900],
      context: g.randn([4, 50, 256]),
      condition: g.rand([4, 3, 256, 256]),
    };
    return repeat(warmup, count, () => {
      backward(bodyLoss({ unet, controlnet, scheduler }, batch));
      clipGradNorm(controlnet.parameters(), 1);
      optimizer.step();
      optimizer.zeroGrad();
    });
  },
  /** One condition frame of the mannequin from head to hips: the mesh posed, and drawn at 512². */
  "condition-512": (warmup: number, count: number) => {
    const data = mannequin();
    const motion = emptyMotion(1, 25, data.expressionCount);
    motion.globalOrient.set([Math.PI, 0, 0]);
    const camera = { width: 512, height: 512, focal: 5000, cx: 256, cy: 256, transl: [0, 0.05, 12.5] as const };
    using poser = new Poser(data);
    const raster = new Rasteriser(data.faces);
    return repeat(warmup, count, () => void raster.render(poser.pose(motion, 0).vertices, camera));
  },
} as const;
/** Measurements the Python peer has too. */
export const shared = ["infer-mini", "window-mini", "train-mini"] as const satisfies readonly MeasurementName[];
export type MeasurementName = keyof typeof measurements;
