/** Stage 1 of the mini preset's VAE: crops of made-up people; then its decoder alone, on whole frames. */
import { cat, fromData, keep, noGrad, scope } from "@make-your-anchor/torch";
import { samplePosterior, type AutoencoderKL } from "@make-your-anchor/diffusion";
import type { FilmedPerson, PeopleWork } from "../people/film.ts";
import { plainGradients, trainLoop, type Batch } from "../train/loop.ts";
import { decoderLoss, fixedSpread, ofDecoder, vaeLoss } from "../train/vae.ts";
import { PeoplePool, type PoolOptions } from "./pool.ts";
import type { SharedSettings } from "./pretrain.ts";

/**
 * Crops of a step: many small steps first, which is what a VAE from nothing wants, then larger ones, nearer to the whole frames that its norms
 * will see.
 */
const crops = [
  { until: 0.75, side: 32, count: 10 },
  { until: 1, side: 64, count: 4 },
] as const;
/** The decoder alone learns sharpness on whole frames, whose norms and attention no crop has; every third step has the side of heads' crops. */
const decoded = { whole: 2, heads: { side: 64, count: 8 } } as const;
/** The second convolution of each residual block and the attention's output start smaller: the blocks begin close to doing nothing, and learn sooner. */
const damped = { names: /(?:conv2|to_out\.0)\.(?:weight|bias)$/, by: 0.1 } as const;

/**
 * Trains it; afterwards its scaling factor gives people's latents unit variance. Of one whose latents a denoiser knows the decoder alone is trained:
 * encoder and factor stay.
 */
export async function pretrainVae(
  vae: AutoencoderKL,
  {
    loop,
    work,
    people,
    first,
    source,
    fromNothing,
    decoderOnly = false,
  }: {
    loop: SharedSettings;
    work: PeopleWork;
    people?: number;
    first: number;
    source: PoolOptions<unknown>["source"];
    fromNothing: boolean;
    decoderOnly?: boolean;
  },
): Promise<void> {
  const { device } = vae;
  const named = [...vae.namedParameters("vae.")].filter(([name]) => !decoderOnly || ofDecoder(name));
  const cutsOf = ({ index, progress }: Batch) => {
    if (!decoderOnly) return crops.find((c) => progress < c.until) ?? crops[1];
    return index % 3 === 2 ? decoded.heads : { side: work.size, count: decoded.whole };
  };
  const { onProgress, signal } = loop;
  const held = { source, people: people ?? 64, stay: 8, first, prepare: (p: FilmedPerson) => p, onProgress, signal };
  const pool = new PeoplePool<FilmedPerson>(held, loop.resume?.step ?? 0);
  if (fromNothing) noGrad(() => named.filter(([name]) => damped.names.test(name)).forEach(([, p]) => void p.value.mul_(damped.by)));
  try {
    await trainLoop({
      ...loop,
      stage: decoderOnly ? "pre-training the VAE's decoder" : "pre-training the VAE",
      recipe: {
        accumulate: 1,
        lr: decoderOnly ? 4e-3 : fromNothing ? 2e-3 : 1e-3,
        weightDecay: 0,
        schedule: "cosine",
        warmup: 100,
        ema: 0.998,
        maxGradNorm: 1,
      },
      parameters: named,
      gradients: async (batch) => {
        const { g } = batch;
        const present = await pool.at(batch.index);
        return plainGradients(batch, () => {
          const { side, count } = cutsOf(batch);
          const places = work.size - side + 1;
          const [who, frame, left, top, flip] = [present.length, work.frames, places, places, 2].map((n) =>
            g.randint(0, n, [count]).data(),
          );
          const cuts = Array.from({ length: count }, (_, b) => {
            const n = 3 * work.size ** 2;
            const at = Number(frame[b]) * n;
            const cut = fromData(present[Number(who[b])].pictures.slice(at, at + n), [1, 3, work.size, work.size])
              .narrow(2, Number(top[b]), side)
              .narrow(3, Number(left[b]), side);
            return Number(flip[b]) ? cut.flip([3]) : cut;
          });
          const x = cat(cuts, 0).to(device).to("float32").div(127.5).sub(1);
          const encode = () => vae.encode(x);
          const { mean, logvar } = decoderOnly ? noGrad(encode) : encode();
          const drawn = vae.decode(samplePosterior({ mean, logvar: fixedSpread(logvar) }, g.randn(mean.shape).to(device)));
          return decoderOnly ? decoderLoss(drawn, x) : vaeLoss(drawn, x, mean, logvar);
        });
      },
    });
    if (!decoderOnly) vae.config.scaling_factor = scope(() => noGrad(() => unitScale(vae, pool.present(), work.size)));
  } finally {
    await pool.close();
  }
}

/** The factor that gives people's latents unit variance. */
function unitScale(vae: AutoencoderKL, people: readonly FilmedPerson[], size: number): number {
  const n = 3 * size * size;
  const means = people.map((p) =>
    scope(() =>
      keep(vae.encode(fromData(p.pictures.slice(0, n), [1, 3, size, size]).to(vae.device).to("float32").div(127.5).sub(1)).mean.clone()),
    ),
  );
  const all = cat(means, 0);
  for (const m of means) m.dispose();
  return Number((1 / Math.sqrt(all.sub(all.mean()).square().mean().item())).toPrecision(6));
}
