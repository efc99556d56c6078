/** A clip's frames as latents, for training. */
import { cat, fromData, keep, noGrad, scope, type Generator, type Tensor } from "@make-your-anchor/torch";
import { samplePosterior, type AutoencoderKL } from "@make-your-anchor/diffusion";
import type { Avatar } from "../avatar.ts";
import { PictureSet } from "../dataset.ts";

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

/** Draws from each frame's posterior, as the original does; a frame is encoded when it is first asked for, and its posterior kept. */
export class PosteriorLatents implements LatentSource {
  readonly shape: readonly number[];
  private readonly vae: AutoencoderKL;
  private readonly avatar: Avatar;
  private readonly frames: readonly number[];
  private readonly known = new Map<number, { mean: Tensor; logvar: Tensor }>();

  /** @param frames of the avatar; `batch` takes places among them */
  constructor(vae: AutoencoderKL, avatar: Avatar, frames: readonly number[]) {
    this.frames = frames;
    this.vae = vae;
    this.avatar = avatar;
    const side = avatar.info.resolution / vae.factor;
    this.shape = [vae.config.latent_channels, side, side];
  }
  private async posterior(index: number): Promise<{ mean: Tensor; logvar: Tensor }> {
    const known = this.known.get(index);
    if (known) return known;
    const picture = await PictureSet.load([this.avatar.frame(this.frames[index])], this.avatar.info.resolution);
    const made = scope(() =>
      noGrad(() => {
        const { mean, logvar } = this.vae.encode(pixels(picture, [0], this.vae.device));
        return { mean: keep(mean.clone()), logvar: keep(logvar.clone()) };
      }),
    );
    this.known.set(index, made);
    return made;
  }
  async batch(indices: readonly number[], g: Generator): Promise<Tensor> {
    const drawn: Tensor[] = [];
    for (const index of indices) {
      const posterior = await this.posterior(index);
      drawn.push(keep(scope(() => noGrad(() => samplePosterior(posterior, g.randn(posterior.mean.shape).to(this.vae.device))))));
    }
    try {
      return scope(() => noGrad(() => keep(cat(drawn, 0).mul(this.vae.config.scaling_factor))));
    } finally {
      for (const t of drawn) t.dispose();
    }
  }
  dispose(): void {
    for (const { mean, logvar } of this.known.values()) {
      mean.dispose();
      logvar.dispose();
    }
  }
}
