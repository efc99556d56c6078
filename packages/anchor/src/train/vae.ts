/** Training the mini preset's own VAE, or a base's decoder, on the avatar's frames. */
import { avgPool2d, cat, l1Loss, noGrad, type Generator, type Tensor } from "@make-your-anchor/torch";
import { samplePosterior, type AutoencoderKL } from "@make-your-anchor/diffusion";
import type { PictureSet } from "../dataset.ts";
import type { VaeSettings } from "../presets.ts";
import type { WorkOptions } from "../progress.ts";
import { plainGradients, trainLoop } from "./loop.ts";
import type { Processes } from "./processes.ts";
import type { Checkpoint, Plan, TrainingRun } from "./run.ts";

/**
 * Pull of the latents towards zero, and of their spread towards a small fixed one. A learnt spread starts at 1, a lot of noise for the first
 * minutes; training has only minutes.
 */
const pull = 1e-4;
const spread = -6;
const detailWeight = 0.75;
/**
 * Side of the random crops that a VAE starting from nothing looks at: four cost what one frame does. A decoder alone is shown whole frames: norms and
 * attention of a crop are not those of the frame it will draw.
 */
const cropSize = 64;

export interface VaeTraining extends WorkOptions {
  run: TrainingRun;
  plan: Plan;
  seconds: number;
  onPlanned: (plan: Plan) => void;
  resume?: Checkpoint;
  /** Trains the decoder alone: latents stay what UNet and ControlNet know. */
  decoderOnly: boolean;
  /** Further latents the decoder learns from, at the end of a training. */
  sampled?: SampledLatents;
  /** Further files of a checkpoint. */
  alsoSaved?: () => Record<string, ReadonlyMap<string, Tensor>>;
  processes: Processes;
}

/** Latents of some frames, all times the scaling factor. */
export interface SampledLatents {
  /** The frames, by their places in the set. */
  places: readonly number[];
  /** As the VAE encodes them, `[n, C, h, w]`. */
  encoded: Tensor;
  /** As UNet and ControlNet sample them, each `[n, C, h, w]`. */
  ways: readonly Tensor[];
}

/** A crop: which frame, and its corner. */
interface Cut {
  pick: number;
  at: { x: number; y: number };
}

/** Where a pixel changes over the clip: crops are drawn there more often, the still background needs few. `[H·W]` ≥ 0. */
function motionMap(frames: PictureSet): Float32Array {
  const n = frames.size ** 2;
  const [sum, squares] = [new Float64Array(n), new Float64Array(n)];
  for (let f = 0; f < frames.length; f++) {
    const x = frames.bytes(f);
    for (let i = 0; i < n; i++) {
      const v = (x[i] + x[n + i] + x[2 * n + i]) / 3;
      sum[i] += v;
      squares[i] += v * v;
    }
  }
  return Float32Array.from(sum, (s, i) => Math.sqrt(Math.max(0, squares[i] / frames.length - (s / frames.length) ** 2)));
}

/** Corners of crops, and up to where of the last one's `upTo` a random number means each: by the motion inside, over a floor. */
function likelyPlaces(frames: PictureSet, side: number, grid: number): { x: number; y: number; upTo: number }[] {
  const { size } = frames;
  if (side === size) return [{ x: 0, y: 0, upTo: 1 }];
  const map = motionMap(frames);
  const places: { x: number; y: number; upTo: number }[] = [];
  let total = 0;
  for (let y = 0; y + side <= size; y += grid) {
    for (let x = 0; x + side <= size; x += grid) {
      let m = 0;
      for (let j = 0; j < side; j += 2) for (let i = 0; i < side; i += 2) m += map[(y + j) * size + x + i];
      total += m / (side * side * 0.25) + 2;
      places.push({ x, y, upTo: total });
    }
  }
  return places;
}

/** The log-variance that training draws latents with, in a tensor's shape. */
export const fixedSpread = (like: Tensor): Tensor => like.detach().mul(0).add(spread);

/** Root mean square of the Laplacian over squares of four pixels: how much fine detail is where, whatever its phase. `[B, C, H/4, W/4]`. */
function detail(t: Tensor): Tensor {
  const [h, w] = [t.size(2), t.size(3)];
  const at = (dy: number, dx: number) => t.narrow(2, 1 + dy, h - 2).narrow(3, 1 + dx, w - 2);
  const laplacian = at(0, 0).mul(4).sub(at(-1, 0)).sub(at(1, 0)).sub(at(0, -1)).sub(at(0, 1));
  return avgPool2d(laplacian.square(), 4).add(1e-4).sqrt(); // the root of 0 has no gradient
}

/**
 * Error of the amount of detail: one of edges alone prefers blur to detail in a slightly wrong place. For a decoder that draws well already;
 * one that starts from nothing would draw noise for it.
 */
const detailLoss = (reconstruction: Tensor, target: Tensor): Tensor => l1Loss(detail(reconstruction), detail(target)).mul(detailWeight);

/** Reconstruction at three scales and of edges: sharp edges matter to the eye and are cheap to miss. */
function reconstructionLoss(reconstruction: Tensor, target: Tensor): Tensor {
  let loss = l1Loss(reconstruction, target);
  const edges = (t: Tensor): [Tensor, Tensor] => [
    t.narrow(3, 1, t.size(3) - 1).sub(t.narrow(3, 0, t.size(3) - 1)),
    t.narrow(2, 1, t.size(2) - 1).sub(t.narrow(2, 0, t.size(2) - 1)),
  ];
  let [a, b] = [reconstruction, target];
  for (let scale = 0; scale < 2; scale++) {
    const [ax, ay] = edges(a);
    const [bx, by] = edges(b);
    loss = loss.add(l1Loss(ax, bx).add(l1Loss(ay, by)).mul(0.5));
    [a, b] = [avgPool2d(a, 2), avgPool2d(b, 2)];
  }
  return loss;
}

/** What a decoder that draws well already learns by. */
export const decoderLoss = (reconstruction: Tensor, target: Tensor): Tensor =>
  reconstructionLoss(reconstruction, target).add(detailLoss(reconstruction, target));

/** Whether a weight of the VAE belongs to its decoder. */
export const ofDecoder = (name: string): boolean => /^vae\.(decoder|post_quant_conv)\./.test(name);

/** `reconstructionLoss`, and the pull of the latents. */
export const vaeLoss = (reconstruction: Tensor, target: Tensor, mean: Tensor, logvar: Tensor): Tensor =>
  reconstructionLoss(reconstruction, target).add(mean.square().mean().mul(pull)).add(logvar.sub(spread).square().mean().mul(pull));

/** Trains the VAE, or its decoder. */
export async function trainVae(vae: AutoencoderKL, frames: PictureSet, t: VaeSettings, o: VaeTraining): Promise<void> {
  const size = frames.size;
  const cropped = Math.min(cropSize, size);
  const side = o.decoderOnly ? size : cropped;
  const grid = vae.factor;
  const places = likelyPlaces(frames, side, grid);
  const total = places[places.length - 1].upTo;
  const { sampled } = o;
  // A picture for each process at least.
  const count = Math.max(Math.round(t.batch * (cropped / side) ** 2), o.processes.count);
  /** Crops of a step, and where they are from. */
  const draw = (g: Generator): { x: Tensor; cuts: readonly Cut[] } => {
    const picks = g.randint(0, sampled ? sampled.places.length : frames.length, [count]).data();
    const chances = g.rand([count]).floats();
    const cuts = Array.from({ length: count }, (_, b): Cut => ({
      pick: Number(picks[b]),
      at: places.find((p) => p.upTo >= chances[b] * total) ?? places[places.length - 1],
    }));
    const parts = cuts.map(({ pick, at }) =>
      frames
        .batch([sampled ? sampled.places[pick] : pick])
        .narrow(2, at.y, side)
        .narrow(3, at.x, side),
    );
    return { x: cat(parts, 0).to(vae.device).to("float32").div(127.5).sub(1), cuts };
  };
  /** Latents of the crops, encoded or sampled. */
  const drawLatents = ({ encoded, ways }: SampledLatents, cuts: readonly Cut[], g: Generator): Tensor => {
    const chances = g.rand([count]).floats();
    const parts = cuts.map(({ pick, at }, b) => {
      const way = Math.floor((chances[b] / t.finish.sampled) * ways.length);
      return (ways[way] ?? encoded)
        .narrow(0, pick, 1)
        .narrow(2, at.y / grid, side / grid)
        .narrow(3, at.x / grid, side / grid);
    });
    return cat(parts, 0).div(vae.config.scaling_factor);
  };
  const trained = [...vae.namedParameters("vae.")].filter(([name]) => !o.decoderOnly || ofDecoder(name));
  const own = o.processes.slice(count);
  const share = own.count / count;
  await trainLoop({
    ...o,
    phase: sampled ? "decoder" : "vae",
    recipe: {
      accumulate: 1,
      lr: o.decoderOnly ? (o.run.config.from === "nothing" ? t.decoderLr : t.tunedDecoderLr) : t.lr,
      weightDecay: 0,
      schedule: "cosine",
      warmup: 50,
      ema: t.ema,
      maxGradNorm: 1,
    },
    stage: sampled ? "finishing the VAE's decoder" : o.decoderOnly ? "training the VAE's decoder" : "training the VAE",
    parameters: trained,
    seed: 2 * o.run.config.seed + (sampled ? 2 : 1), // start and end of a run draw other numbers
    gradients: (batch) =>
      share *
      plainGradients({ ...batch, scale: batch.scale * share }, () => {
        const { g } = batch;
        const { x: all, cuts } = draw(g);
        const x = all.narrow(0, own.from, own.count);
        const encode = () => vae.encode(x);
        const encoded = sampled ? null : o.decoderOnly ? noGrad(encode) : encode();
        const mean = encoded?.mean ?? noGrad(() => drawLatents(sampled!, cuts, g).narrow(0, own.from, own.count));
        const noise = g
          .randn([count, ...mean.shape.slice(1)])
          .narrow(0, own.from, own.count)
          .to(vae.device);
        const drawn = vae.decode(samplePosterior({ mean, logvar: fixedSpread(mean) }, noise));
        if (o.decoderOnly || encoded === null) return decoderLoss(drawn, x);
        return vaeLoss(drawn, x, mean, encoded.logvar);
      }),
  });
}
