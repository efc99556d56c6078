export { TorchError, ShapeError, StateDictError } from "./errors.ts";
export { Tensor, type Operand } from "./tensor.ts";
export type { DType, TypedArray } from "./dtype.ts";
export { scope, keep, noGrad, gradEnabled, liveTensors, leakedTensors } from "./scope.ts";
export { backward, grad } from "./autograd.ts";
export {
  arange,
  empty,
  eye,
  fromData,
  full,
  Generator,
  linspace,
  ones,
  onesLike,
  tensor,
  zeros,
  zerosLike,
  type TensorOptions,
} from "./create.ts";
export {
  assertFinite,
  attention,
  avgPool2d,
  batchNorm,
  maxPool2d,
  upsampleBilinear,
  cat,
  conv2d,
  embedding,
  expectShape,
  groupNorm,
  groupNormOverFrames,
  addTo,
  mulInto,
  siluOf,
  index,
  l1Loss,
  layerNorm,
  linear,
  mseLoss,
  stack,
  upsampleNearest,
  where,
} from "./functional.ts";
export {
  constant,
  Module,
  normal,
  Parameter,
  sourceOf,
  uniformFanIn,
  type Init,
  type LoadOptions,
  type StateDictSource,
} from "./nn/module.ts";
export { BatchNorm2d, Conv2d, Embedding, GroupNorm, LayerNorm, Linear, ModuleList, type Conv2dOptions } from "./nn/layers.ts";
export { LowRankAdapter, type LowRankOptions } from "./nn/low-rank.ts";
export { backwardCheckpointed, segment } from "./checkpoint.ts";
export { AdamW, type AdamWOptions } from "./optim/adamw.ts";
export { clipGradNorm } from "./optim/clip.ts";
export { cosine } from "./optim/schedules.ts";
export { loadSafetensors, SafetensorsFile, saveSafetensors, type TensorInfo } from "./io/safetensors.ts";
export { TorchFile } from "./io/torch-file.ts";
export { groupBackends, groupFromEnvironment, ProcessGroup, type GroupBackend, type GroupOptions } from "./distributed.ts";
export { engineInfo, setThreads } from "./engine.ts";
export { allowTf32, autocast, cudaDevices, cudaMemory, resetPeakMemory, type DeviceMemory, type Tf32 } from "./device.ts";
/** Every bound operator by its dispatcher name; `op.NAME.exists` tells whether this libtorch has it. */
export * as ops from "./ops.gen.ts";
