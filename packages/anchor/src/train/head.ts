/** `train head`: the inpainting UNet and its ControlNet on crops of one person's head; of the mini preset from nothing, its VAE first. */
import { cat, fromData, keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { paintedFocus, samplePosterior, type AutoencoderKL, type HeadBatch, type Posterior } from "@make-your-anchor/diffusion";
import { blankImage, readImage, toLuma } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { framesInMemory, mostHeld, PictureSet } from "../dataset.ts";
import { draftClip, variantAt } from "../draft/draft-clip.ts";
import { headKinds, headPath, prepareHeads, trainingHeads, type HeadsOptions, type HeadsReport } from "../head/heads.ts";
import { validatedFrames } from "../models/provenance.ts";
import { Kept } from "./kept.ts";
import { vaeSteps, startVae, trainPart } from "./part.ts";
import { AskedTraining, type TrainedPart, type TrainOptions } from "./started.ts";
import { validationFrames, type Pose } from "./validation.ts";

type HeadKind = (typeof headKinds)[number];

export interface HeadTrainResult extends TrainedPart {
  /** Of the VAE at the start and of its decoder at the end, 0 where it is published; of UNet and ControlNet. */
  steps: { vae: number; decoder: number; head: number };
  heads: HeadsReport;
}

/** A crop as the model learns from it; all but the condition as latents. */
interface Crop {
  picture: Posterior;
  /** What it is painted from: the picture with its face blanked, or the drafts of all of it. */
  masked: Posterior[];
  /** `[1, 1, h, w]`: 1 lies outside the face. */
  mask: Tensor;
}

/** Crops by their place in `frames`: encoded when they are first asked for, and kept while there is room for so many. */
class CropLatents {
  private readonly vae: AutoencoderKL;
  private readonly avatar: Avatar;
  private readonly frames: readonly number[];
  private readonly size: number;
  private readonly drafts: readonly PictureSet[];
  private readonly known = new Kept<Crop>(
    mostHeld,
    (k) => this.encode(k),
    ({ picture, masked, mask }) => {
      for (const t of [mask, ...[picture, ...masked].flatMap((p) => [p.mean, p.logvar])]) t.dispose();
    },
  );

  /** @param drafts of the frames, by variant; none: pictures with their faces blanked are painted from */
  constructor(vae: AutoencoderKL, avatar: Avatar, frames: readonly number[], size: number, drafts: readonly PictureSet[]) {
    this.vae = vae;
    this.drafts = drafts;
    this.avatar = avatar;
    this.frames = frames;
    this.size = size;
  }
  /** What is made of the crops at some places. */
  use<R>(places: readonly number[], then: (crops: readonly Crop[]) => R): Promise<R> {
    return this.known.use(places, then);
  }
  private async encode(k: number): Promise<Crop> {
    const { vae, size, drafts } = this;
    const set = await PictureSet.load([headPath(this.avatar, "aligned", this.frames[k])], size);
    const kept = Float32Array.from(toLuma(await readImage(headPath(this.avatar, "masks", this.frames[k]))), (v) => (v >= 128 ? 1 : 0));
    return scope(() =>
      noGrad(() => {
        const mask = fromData(kept, [1, 1, size, size], { device: vae.device });
        const pixelsOf = (bytes: Tensor) => bytes.to(vae.device).to("float32").div(127.5).sub(1);
        const pixels = pixelsOf(set.batch([0]));
        const seen = drafts.length > 0 ? drafts.map((of) => pixelsOf(of.batch([k]))) : [pixels.mul(mask)];
        const own = ({ mean, logvar }: Posterior): Posterior => ({ mean: keep(mean.clone()), logvar: keep(logvar.clone()) });
        return {
          picture: own(vae.encode(pixels)),
          masked: seen.map((x) => own(vae.encode(x))),
          mask: keep(mask.slice(2, 0, null, vae.factor).slice(3, 0, null, vae.factor).contiguous()),
        };
      }),
    );
  }
  /** The scaling factor that gives the pictures' latents unit variance. */
  async unitScale(): Promise<number> {
    return this.use([...this.frames.keys()], (crops) =>
      scope(() =>
        noGrad(() => {
          const all = cat(
            crops.map((c) => c.picture.mean),
            0,
          );
          return Number((1 / Math.sqrt(all.sub(all.mean()).square().mean().item())).toPrecision(6));
        }),
      ),
    );
  }
  dispose(): void {
    this.known[Symbol.dispose]();
  }
}

/** Trains an avatar's head model. Interrupted, the same call goes on where it stopped; the last part of the clip is never looked at. */
export async function trainHead(avatar: Avatar, o: TrainOptions & HeadsOptions = {}): Promise<HeadTrainResult> {
  const asked = new AskedTraining(avatar, "head", o);
  const { full, skipped, from, processes } = asked;
  const { device } = asked.compute;
  const { resolution, training: settings } = asked.preset.head;
  const heads = await processes.mainFirst(() => prepareHeads(avatar, o));
  const all = full ? trainingHeads(avatar, heads) : framesInMemory(trainingHeads(avatar, heads));
  const paths = (kind: HeadKind, of: readonly number[]) => of.map((f) => headPath(avatar, kind, f));
  const frames = o.skipBad
    ? await skipped.readable(all, (f) =>
        PictureSet.load(
          headKinds.map((kind) => headPath(avatar, kind, f)),
          resolution,
        ),
      )
    : all;
  using training = await asked.start();
  const { run } = training;
  const { vae } = training.models;
  const ofVae = settings.vae && { settings: settings.vae, pictures: await PictureSet.load(paths("aligned", frames), resolution) };
  if (ofVae) await startVae(training, ofVae);
  const context = training.appearance(await readImage(headPath(avatar, "aligned", frames[0])));
  const prompts = await training.prompts(context);
  const conditionsOf = (places: readonly number[]) =>
    PictureSet.load(
      paths(
        "conditions",
        places.map((k) => frames[k]),
      ),
      resolution,
    );
  // Small ones are held; at full size they are read as they are needed, as the body's.
  const small = full ? null : await conditionsOf([...frames.keys()]);
  const drafted = ofVae && small && (await draftClip(ofVae.pictures, small, o));
  const poses: Pose[] = [];
  const held = heads.frames.filter((i) => i >= avatar.info.heldOutFrom);
  for (const frame of asked.trials ? validationFrames(held, validatedFrames(avatar, "body")) : []) {
    const picture = async (kind: HeadKind) => readImage(headPath(avatar, kind, frame));
    const [truth, mask] = [await picture("aligned"), await picture("masks")];
    const counts = Uint8Array.from(toLuma(mask), (v) => (v >= 128 ? 0 : 1));
    poses.push({
      frame,
      truth,
      condition: await picture("conditions"),
      inpaint: { image: truth, mask: drafted ? blankImage(resolution, resolution) : mask },
      counts: counts.includes(1) ? counts : undefined, // a parsing network may have found no face
    });
  }
  const latents = new CropLatents(vae, avatar, frames, resolution, drafted?.own.map((own) => new PictureSet(resolution, own)) ?? []);
  try {
    if (from === "nothing") vae.config.scaling_factor = await latents.unitScale();
    const { steps, ...result } = await trainPart<HeadBatch>(training, {
      vae: ofVae,
      draft: drafted?.draft,
      paints: drafted ? "crop" : "face",
      poses,
      prompts,
      count: frames.length,
      shape: [vae.config.latent_channels, resolution / vae.factor, resolution / vae.factor],
      data: async (places, timesteps, noise, g): Promise<HeadBatch> => {
        using bytes = small ? small.batch(places) : (await conditionsOf(places)).batch([...places.keys()]);
        return await latents.use(places, (crops) =>
          scope(() =>
            noGrad(() => {
              const scale = vae.config.scaling_factor;
              // The full-size VAE's posteriors are drawn from, as the original does; the mini one's spread is fixed and its mean is taken.
              const drawn = (p: Posterior) => (full ? samplePosterior(p, g.randn(p.mean.shape).to(device)) : p.mean);
              const stacked = (of: (c: Crop, b: number) => Tensor) => cat(crops.map(of), 0);
              const mask = stacked((c) => c.mask);
              const { background } = run.config.recipe;
              return {
                latents: stacked((c) => drawn(c.picture)).mul(scale),
                maskedImageLatents: stacked((c, b) => drawn(c.masked[variantAt(timesteps[b], c.masked.length)])).mul(scale),
                // From a draft all of the crop is painted, and nothing of it kept.
                maskLatents: drafted ? mask.mul(0) : mask,
                focus: drafted && background !== 1 ? paintedFocus(mask, background) : undefined,
                noise: noise.to(device).clone(),
                timesteps,
                context: context.expand([places.length, context.size(1), context.size(2)]),
                condition: bytes.to(device).to("float32").div(255),
              };
            }),
          ),
        );
      },
    });
    return { ...training.told(result), steps: { ...vaeSteps(run), head: steps }, heads };
  } finally {
    latents.dispose();
  }
}
