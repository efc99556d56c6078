/** The two sizes of the system. */
import type { ConditionStyle } from "./conditions.ts";
import { referenceRecipe, type Recipe } from "./train/recipe.ts";
import type { AutoencoderKLConfig, ClipVisionConfig, ControlNetConfig, SchedulerConfig, UNetConfig } from "@make-your-anchor/diffusion";

export type PresetName = "mini" | "sd15";

export interface Preset {
  name: PresetName;
  /** Side of the square frames, pixels. */
  resolution: number;
  /** What `create` draws; published weights know the original's alone. */
  conditionStyle: ConditionStyle;
  /** Configs of the parts made here; null: published weights are needed. */
  models: {
    unet: Partial<UNetConfig>;
    controlnet: Partial<ControlNetConfig>;
    vae: Partial<AutoencoderKLConfig>;
    imageEncoder: Partial<ClipVisionConfig>;
  } | null;
  scheduler: Partial<SchedulerConfig>;
  sampling: {
    steps: number;
    guidanceScale: number;
    controlnetConditioningScale: number;
    windowSize: number;
    windowOverlap: number;
    aliased: boolean;
    seed: number;
  };
  /** The model of the head alone, which paints the face of a crop anew. */
  head: {
    /** Side of the crop, pixels. */
    resolution: number;
    /** Side of the mesh render that the condition crop is cut from. */
    conditionSize: number;
    models: Preset["models"];
    sampling: Omit<Preset["sampling"], "aliased">;
    training: Training;
  };
  training: Training;
}

export interface Training {
  recipe: Recipe;
  /** Rate where weights start from a base. */
  tuningLr: number;
  /** Rate of adapters. */
  adapterLr: number;
  /** How the mini preset's VAE is trained; null: it is published and stays. */
  vae: VaeSettings | null;
}

export interface VaeSettings {
  /** Crops of a step, 64²; of whole frames, which the decoder alone learns from, as many as have their pixels. */
  batch: number;
  lr: number;
  /** The same where the decoder alone is trained. */
  decoderLr: number;
  /** The same where it is a base's; one that started from nothing may collapse at it. */
  tunedDecoderLr: number;
  ema: number;
  /** Of the time, before UNet and ControlNet. */
  share: number;
  /** The same where it comes from a base: its decoder alone is tuned. */
  decoderShare: number;
  /** At the end the decoder learns from latents that UNet and ControlNet sample, which are blurrier than encoded frames. */
  finish: {
    /** Of the time, the sampling included. */
    share: number;
    /** The same where weights come from a base: its UNet and ControlNet have learnt what the clip tells long before its decoder has. */
    tunedShare: number;
    /** Chance of a sampled latent rather than an encoded frame's. */
    sampled: number;
    /** Frames that are sampled: for each minute of training, and at most. */
    framesPerMinute: number;
    frames: number;
  };
}

const miniBlocks = {
  block_out_channels: [48, 96, 144],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  layers_per_block: 1,
  norm_num_groups: 16,
  cross_attention_dim: 96,
  attention_head_dim: 4,
};

const miniVae = { block_out_channels: [32, 48, 64], layers_per_block: 1, norm_num_groups: 8, latent_channels: 8, scaling_factor: 1 };
const miniEncoder = { hidden_size: 96, intermediate_size: 192, num_hidden_layers: 2, num_attention_heads: 4 };
const miniControlNet = { ...miniBlocks, in_channels: 8, conditioning_embedding_out_channels: [16, 32, 48] };
const miniUp = { out_channels: 8, up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"] };
const miniVaeTraining: VaeSettings = {
  batch: 8,
  lr: 1.5e-3,
  ema: 0.995,
  share: 0.2,
  decoderShare: 0.05,
  decoderLr: 4e-3,
  tunedDecoderLr: 8e-3,
  finish: { share: 0.15, tunedShare: 0.35, sampled: 0.7, framesPerMinute: 10, frames: 240 },
};
const miniTraining: Training = {
  recipe: {
    batch: 8,
    accumulate: 1,
    lr: 8e-4,
    weightDecay: 1e-2,
    schedule: "cosine",
    warmup: 50,
    ema: 0.995,
    maxGradNorm: 1,
    clip: "all",
    timesteps: "stratified",
    noiseless: 0.8,
    dropout: 0.1,
    minSnr: 0,
    noiseOffset: 0,
    dropAppearance: 0,
    background: 0.3,
    checkpointing: false,
  },
  tuningLr: 2.5e-3,
  adapterLr: 2e-3,
  vae: miniVaeTraining,
};

// The original's; one sample at a time, so that a step fits into a machine's memory.
const fullTraining: Training = {
  recipe: { ...referenceRecipe, checkpointing: true },
  tuningLr: referenceRecipe.lr,
  adapterLr: 4 * referenceRecipe.lr,
  vae: null,
};

export const presets: Record<PresetName, Preset> = {
  // The same architecture, shrunk until two CPU cores train it in minutes. What differs and why: docs/design/mini.md.
  mini: {
    name: "mini",
    resolution: 128,
    conditionStyle: "surface",
    models: {
      unet: { ...miniBlocks, ...miniUp, in_channels: 16 },
      controlnet: miniControlNet,
      vae: miniVae,
      imageEncoder: miniEncoder,
    },
    scheduler: {
      prediction_type: "v_prediction",
      rescale_betas_zero_snr: true,
      timestep_spacing: "trailing",
      steps_offset: 0,
      set_alpha_to_one: true,
    },
    sampling: { steps: 1, guidanceScale: 1, controlnetConditioningScale: 1, windowSize: 16, windowOverlap: 4, aliased: false, seed: 42 },
    head: {
      resolution: 64,
      conditionSize: 256,
      models: {
        unet: { ...miniBlocks, ...miniUp, in_channels: 17 },
        controlnet: miniControlNet,
        vae: miniVae,
        imageEncoder: miniEncoder,
      },
      sampling: { steps: 1, guidanceScale: 1, controlnetConditioningScale: 1, windowSize: 16, windowOverlap: 4, seed: 42 },
      training: {
        ...miniTraining,
        // Surroundings are not shown.
        recipe: { ...miniTraining.recipe, background: 0.2 },
        // A body's rate was not tried on heads.
        vae: { ...miniVaeTraining, tunedDecoderLr: miniVaeTraining.decoderLr },
      },
    },
    training: miniTraining,
  },
  sd15: {
    name: "sd15",
    resolution: 512,
    conditionStyle: "shaded",
    models: null,
    scheduler: {},
    sampling: { steps: 20, guidanceScale: 7.5, controlnetConditioningScale: 2, windowSize: 16, windowOverlap: 4, aliased: true, seed: 42 },
    head: {
      resolution: 256,
      conditionSize: 512,
      models: null,
      sampling: { steps: 20, guidanceScale: 3.5, controlnetConditioningScale: 1, windowSize: 16, windowOverlap: 4, seed: 42 },
      training: fullTraining,
    },
    training: fullTraining,
  },
};
