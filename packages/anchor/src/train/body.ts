/** `train body`: UNet and ControlNet on latents; of the mini preset from nothing, its VAE first; at full size from published weights. */
import { keep, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { loadMotion } from "@make-your-anchor/body";
import type { BodyBatch } from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import type { Avatar } from "../avatar.ts";
import { viewOf } from "../draft/view.ts";
import { framesInMemory, loadFrames, PictureSet } from "../dataset.ts";
import { draftClip, variantAt } from "../draft/draft-clip.ts";
import { PosteriorLatents, UnitLatents } from "./latents.ts";
import { vaeSteps, startVae, trainPart } from "./part.ts";
import { AskedTraining, type TrainedPart, type TrainOptions } from "./started.ts";
import { validationFrames, type Pose } from "./validation.ts";

export interface TrainResult extends TrainedPart {
  /** Of the VAE at the start and of its decoder at the end, 0 where it is published; of UNet and ControlNet. */
  steps: { vae: number; decoder: number; body: number };
}

/** Trains an avatar's body model. Interrupted, the same call goes on where it stopped; the last part of the clip is never looked at. */
export async function trainBody(avatar: Avatar, o: TrainOptions = {}): Promise<TrainResult> {
  const asked = new AskedTraining(avatar, "body", o);
  const { preset, full, skipped, from } = asked;
  const { device } = asked.compute;
  const size = avatar.info.resolution;
  const all = full ? avatar.trainingFrames : framesInMemory(avatar.trainingFrames);
  const frames = o.skipBad ? await skipped.readable(all, (f) => PictureSet.load([avatar.frame(f), avatar.condition(f)], size)) : all;
  using training = await asked.start();
  const { run, models } = training;
  const sets = full ? null : await loadFrames(avatar, frames);
  // At full size there are too many to hold: read as they are needed.
  const conditionsOf = async (places: readonly number[]): Promise<Tensor> => {
    if (sets) return sets.conditions.batch(places);
    const set = await PictureSet.load(
      places.map((k) => avatar.condition(frames[k])),
      size,
    );
    return set.batch([...places.keys()]);
  };
  const vae = preset.training.vae && sets && { settings: preset.training.vae, pictures: sets.frames };
  if (vae) await startVae(training, vae);
  const context = training.appearance(await readImage(avatar.referencePath));
  const prompts = await training.prompts(context);
  const poses: Pose[] = [];
  const motion = loadMotion(avatar.motionPath);
  const viewAt = (frame: number) => viewOf(motion, frame, size);
  for (const frame of asked.trials ? validationFrames(avatar.framesWithPerson(avatar.info.heldOutFrom, avatar.info.frames)) : [])
    poses.push({
      frame,
      truth: await readImage(avatar.frame(frame)),
      condition: await readImage(avatar.condition(frame)),
      view: viewAt(frame),
    });

  const drafted = sets && (await draftClip(sets.frames, sets.conditions, { ...o, views: motion.views && frames.map((f) => viewAt(f)!) }));
  const latents = sets ? new UnitLatents(models.vae, sets.frames, from === "nothing") : new PosteriorLatents(models.vae, avatar, frames);
  const drafts = drafted && new UnitLatents(models.vae, new PictureSet(size, drafted.own.flat()), false);
  const draftOf = (k: number, timestep: number) => variantAt(timestep, drafted!.own.length) * frames.length + k;
  try {
    const { steps, ...result } = await trainPart<BodyBatch>(training, {
      vae,
      draft: drafted?.draft,
      poses,
      prompts,
      count: frames.length,
      shape: latents.shape,
      data: async (places, timesteps, noise, g) => {
        const ofPlaces = await latents.batch(places, g);
        using bytes = await conditionsOf(places);
        return scope(() =>
          noGrad(() => ({
            latents: ofPlaces,
            draftLatents: drafts?.batch(places.map((k, b) => draftOf(k, timesteps[b]))),
            noise: keep(noise.to(device).clone()),
            timesteps,
            context: keep(context.expand([places.length, context.size(1), context.size(2)])),
            condition: keep(bytes.to(device).to("float32").div(255)),
          })),
        );
      },
    });
    return { ...training.told(result), steps: { ...vaeSteps(run), body: steps } };
  } finally {
    latents.dispose();
    drafts?.dispose();
  }
}
