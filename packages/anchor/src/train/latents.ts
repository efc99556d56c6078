/** A clip's frames as latents, for training. */
import { cat, fromData, keep, noGrad, scope, type Generator, type Tensor } from "@make-your-anchor/torch";
import { samplePosterior, type AutoencoderKL, type Posterior } from "@make-your-anchor/diffusion";
import type { Avatar } from "../avatar.ts";
import { mostHeld, PictureSet } from "../dataset.ts";
import { Kept } from "./kept.ts";

export interface LatentSource {
  /** `[C, h, w]`. */
  readonly shape: readonly number[];
  /** `[B, C, h, w]`, times the scaling factor; owned by the caller. */
  batch(indices: readonly number[], g: Generator): Tensor | Promise<Tensor>;
  dispose(): void;
}

/** Frames encoded at once. */
const encodeBatch = 8;
const pixels = (set: PictureSet, indices: readonly number[], device: string): Tensor =>
  set.batch(indices).to(device).to("float32").div(127.5).sub(1);

/** All latents' means, scaled. */
export class UnitLatents implements LatentSource {
  readonly shape: readonly number[];
  private readonly all: Tensor;

  /** @param fitScale sets the VAE's scaling factor so that these frames' latents have unit variance */
  constructor(vae: AutoencoderKL, frames: PictureSet, fitScale: boolean) {
    const parts: Tensor[] = [];
    for (let i = 0; i < frames.length; i += encodeBatch) {
      const indices = Array.from({ length: Math.min(encodeBatch, frames.length - i) }, (_, k) => i + k);
      parts.push(keep(scope(() => noGrad(() => vae.encode(pixels(frames, indices, vae.device)).mean.clone()))));
    }
    this.all = scope(() =>
      noGrad(() => {
        const raw = cat(parts, 0);
        if (fitScale) vae.config.scaling_factor = Number((1 / Math.sqrt(raw.sub(raw.mean()).square().mean().item())).toPrecision(6));
        return keep(raw.mul(vae.config.scaling_factor));
      }),
    );
    for (const p of parts) p.dispose();
    this.shape = this.all.shape.slice(1);
  }
  batch(indices: readonly number[]): Tensor {
    return scope(() =>
      noGrad(() =>
        keep(this.all.indexSelect(0, fromData(BigInt64Array.from(indices, BigInt), [indices.length], { device: this.all.device }))),
      ),
    );
  }
  dispose(): void {
    this.all.dispose();
  }
}

/**
 * Draws from each frame's posterior, as the original does; a frame is encoded when it is first asked for, and its posterior kept (131 kB at 512²) while
 * there is room for so many.
 */
export class PosteriorLatents implements LatentSource {
  readonly shape: readonly number[];
  private readonly vae: AutoencoderKL;
  private readonly known: Kept<Posterior>;

  /** @param frames of the avatar; `batch` takes places among them */
  constructor(vae: AutoencoderKL, avatar: Avatar, frames: readonly number[]) {
    this.vae = vae;
    const { resolution } = avatar.info;
    const side = resolution / vae.factor;
    this.shape = [vae.config.latent_channels, side, side];
    const encode = async (index: number): Promise<Posterior> => {
      const picture = await PictureSet.load([avatar.frame(frames[index])], resolution);
      return scope(() =>
        noGrad(() => {
          const { mean, logvar } = vae.encode(pixels(picture, [0], vae.device));
          return { mean: keep(mean.clone()), logvar: keep(logvar.clone()) };
        }),
      );
    };
    this.known = new Kept(mostHeld, encode, ({ mean, logvar }) => {
      mean.dispose();
      logvar.dispose();
    });
  }
  async batch(indices: readonly number[], g: Generator): Promise<Tensor> {
    return this.known.use(indices, (posteriors) =>
      scope(() =>
        noGrad(() => {
          const drawn = posteriors.map((p) => samplePosterior(p, g.randn(p.mean.shape).to(this.vae.device)));
          return keep(cat(drawn, 0).mul(this.vae.config.scaling_factor));
        }),
      ),
    );
  }
  dispose(): void {
    this.known[Symbol.dispose]();
  }
}
