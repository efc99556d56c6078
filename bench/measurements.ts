/** What is measured: ControlNet and UNet, mini (block_out_channels 64, 128, 256, context width 256) and at Stable Diffusion 1.5's size, as the Python peer has them. */
import {
  AdamW,
  autocast,
  backward,
  clipGradNorm,
  fromData,
  Generator,
  noGrad,
  resetPeakMemory,
  scope,
  type DType,
  type Tensor,
} from "@make-your-anchor/torch";
import { emptyMotion, mannequin, Poser, Rasteriser } from "@make-your-anchor/body";
import {
  denoisingLoss,
  ControlNetModel,
  DDPMScheduler,
  openWeightsFile,
  UNet2DConditionModel,
  UNet3DConditionModel,
  unetDefaults,
  type UNetConfig,
} from "@make-your-anchor/diffusion";

interface Size {
  config: Partial<UNetConfig>;
  up: readonly string[];
  contextWidth: number;
}
const mini: Size = {
  config: {
    block_out_channels: [64, 128, 256],
    down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    cross_attention_dim: 256,
  },
  up: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  contextWidth: 256,
};
/** The classes' own defaults. */
const sd15: Size = { config: {}, up: unetDefaults.up_block_types, contextWidth: unetDefaults.cross_attention_dim };

function models(size: Size) {
  using g = new Generator(0);
  const unet = new UNet3DConditionModel({ ...size.config, up_block_types: size.up }).initialize(g);
  // Four halvings less one: the peer's condition embedding, whatever the depth of the UNet.
  const controlnet = new ControlNetModel({ ...size.config, conditioning_embedding_out_channels: [16, 32, 96, 256] }).initialize(g);
  return { unet, controlnet };
}

export interface RepeatOptions {
  /** Repeats before the clock runs. */
  warmup: number;
  count: number;
  /** Default cpu. */
  device?: string;
  /** Of weights and inputs (in training of the arithmetic, by autocast); default float32. */
  dtype?: DType;
  /** Lays convolutions out channels last. */
  channelsLast?: boolean;
  /** A file of Stable Diffusion 1.5's UNet, for load-sd15. */
  weights?: string;
}

/** Seconds of each repeat of `run`, after `warmup` more. */
function repeat({ warmup, count, device = "cpu" }: RepeatOptions, run: () => Tensor | void): number[] {
  const times: number[] = [];
  for (let i = 0; i < warmup + count; i++) {
    const from = performance.now();
    scope(() => {
      const result = run();
      // A GPU works on while we go on: asking for a number waits for it.
      if (device !== "cpu") result?.sum().item();
    });
    if (i >= warmup) times.push((performance.now() - from) / 1000);
  }
  return times;
}

const times = (n: number, t: number) =>
  fromData(
    BigInt64Array.from({ length: n }, () => BigInt(t)),
    [n],
  );

function infer(size: Size, o: RepeatOptions, batch: number, side: number, frames: number, scale: number): number[] {
  const { device = "cpu", dtype = "float32" } = o;
  const place = (t: Tensor) => t.to(device).to(t.dtype === "float32" ? dtype : t.dtype);
  const { unet, controlnet } = models(size);
  for (const m of [unet, controlnet]) {
    m.to(dtype).to(device);
    if (o.channelsLast) m.channelsLast();
  }
  if (device !== "cpu") resetPeakMemory(device); // what making the models took is not the measured
  const g = new Generator(1);
  const x = place(g.randn([batch * frames, 4, side, side]));
  const context = place(g.randn([batch, 50, size.contextWidth]));
  const image = place(g.rand([batch * frames, 3, side * 8, side * 8]));
  const t = place(times(batch, 501));
  return noGrad(() =>
    repeat(o, () => {
      const residuals = controlnet.forward(x, t, context, image, { scale, frames });
      return unet.forwardFrames(x, frames, t, context, residuals);
    }),
  );
}

export const measurements = {
  "infer-mini": (o: RepeatOptions) => infer(mini, o, 4, 32, 1, 1),
  "window-mini": (o: RepeatOptions) => infer(mini, o, 2, 16, 16, 2),
  "infer-sd15": (o: RepeatOptions) => infer(sd15, o, 1, 64, 1, 1),
  /** A whole window at full size, one guidance branch. */
  "window-sd15": (o: RepeatOptions) => infer(sd15, o, 1, 64, 16, 2),
  "train-mini": (o: RepeatOptions) => {
    const { device = "cpu", dtype = "float32" } = o;
    const { unet, controlnet } = models(mini);
    for (const m of [unet, controlnet]) m.to(device).requiresGrad_();
    const optimizer = new AdamW([...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")], { lr: 1e-5 });
    const scheduler = new DDPMScheduler();
    const g = new Generator(1);
    const batch = {
      latents: g.randn([4, 4, 32, 32]).to(device),
      noise: g.randn([4, 4, 32, 32]).to(device),
      timesteps: [10, 300, 600, 900],
      context: g.randn([4, 50, 256]).to(device),
      condition: g.rand([4, 3, 256, 256]).to(device),
    };
    return repeat(o, () => {
      const loss = autocast(device, dtype as "float32" | "bfloat16", () => denoisingLoss({ unet, controlnet, scheduler }, batch));
      backward(loss);
      clipGradNorm(controlnet.parameters(), 1);
      optimizer.step();
      optimizer.zeroGrad();
      return loss.detach();
    });
  },
  /** One condition frame of the mannequin from head to hips: the mesh posed, and drawn at 512². */
  "condition-512": (o: RepeatOptions) => {
    const data = mannequin();
    const motion = emptyMotion(1, 25, data.expressionCount);
    motion.globalOrient.set([Math.PI, 0, 0]);
    const camera = { width: 512, height: 512, focal: 5000, cx: 256, cy: 256, transl: [0, 0.05, 12.5] as const };
    using poser = new Poser(data);
    const raster = new Rasteriser(data.faces);
    return repeat(o, () => void raster.render(poser.pose(motion, 0).vertices, camera));
  },
  /** A file of weights to a model one can use: every page of it touched once. */
  "load-sd15": (o: RepeatOptions) => {
    if (!o.weights) throw new Error("load-sd15 needs --weights FILE, Stable Diffusion 1.5's UNet in float32 safetensors");
    return repeat(o, () =>
      noGrad(() => {
        using unet = new UNet2DConditionModel();
        using file = openWeightsFile(o.weights!);
        unet.loadStateDict(file, { what: file.path });
        let sum = 0;
        for (const p of unet.parameters()) sum += scope(() => p.value.reshape([-1]).slice(0, 0, null, 1024).sum().item());
        if (!Number.isFinite(sum)) throw new Error(`${o.weights}: holds no numbers`);
      }),
    );
  },
} as const;
/** Measurements the Python peer has too. */
export const shared = ["infer-mini", "window-mini", "train-mini", "infer-sd15"] as const satisfies readonly MeasurementName[];
export type MeasurementName = keyof typeof measurements;
