export { minSnrWeights } from "./training/min-snr.ts";
export { ConfigError, readConfig, saveModel } from "./weights/config.ts";
export { loadWeights, openWeightsFile, openWeightsFolder, type WeightsSource } from "./weights/source.ts";
export { timestepFeatures } from "./models/embeddings.ts";
export { UNet2DConditionModel, UNet3DConditionModel, unetDefaults, type Residuals, type UNetConfig } from "./models/unet-2d-condition.ts";
export { Dropout } from "./models/dropout.ts";
export { ControlNetModel, type ControlNetConfig } from "./models/controlnet.ts";
export { AutoencoderKL, autoencoderDefaults, samplePosterior, type AutoencoderKLConfig, type Posterior } from "./models/autoencoder-kl.ts";
export {
  CLIPTextModel,
  CLIPVisionModel,
  clipTextDefaults,
  clipVisionDefaults,
  type ClipTextConfig,
  type ClipVisionConfig,
} from "./models/clip.ts";
export { CLIPTokenizer } from "./models/clip-tokenizer.ts";
export { clipCrop, clipPixels } from "./models/clip-image.ts";
export { alphasCumprod, betasOf, schedulerDefaults, timestepsOf, type SchedulerConfig } from "./schedulers/config.ts";
export { DDIMScheduler, ddimStep } from "./schedulers/ddim.ts";
export {
  createSampler,
  DDIMSampler,
  DDPMSampler,
  DPMSolverMultistepSampler,
  samplerNames,
  startOf,
  type SamplerName,
} from "./schedulers/sampler.ts";
export type { Sampler, SamplerState } from "./schedulers/run.ts";
export { DDPMScheduler } from "./schedulers/ddpm.ts";
export { solveLinear, UniPCMultistepScheduler, type UniPCConfig } from "./schedulers/unipc.ts";
export { keyFrameWindows, overlapWindows, type Window } from "./pipelines/windows.ts";
export { type Inpainting, sampleBody, type BodyModels, type BodySampling, type SampledFrame } from "./pipelines/body-pipeline.ts";
export { headInputs, sampleHead, type HeadInputs, type HeadModels, type HeadSampling } from "./pipelines/head-pipeline.ts";
export {
  denoisingLoss,
  meshFocus,
  paintedFocus,
  predictNoised,
  type BodyBatch,
  type DenoisingModels,
  type HeadBatch,
} from "./training/denoising-step.ts";
export { singleFileParts, type SingleFileConfigs, type SingleFilePart, type SingleFileParts } from "./weights/compvis.ts";
export { loadSingleFile, type SingleFileLoad, type SingleFileModels, type SingleFilePartName } from "./weights/single-file.ts";
