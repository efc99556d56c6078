export { BodyError } from "./errors.ts";
export { npyBytes, parseNpy, readNpy, readNpz, writeNpz, type NpyArray } from "./io/npy.ts";
export * as rotations from "./model/rotations.ts";
export {
  jointCount,
  jointIndex,
  jointNames,
  parents,
  pickedNames,
  smplxVertexIds,
  type PickedName,
  type VertexIds,
} from "./model/skeleton.ts";
export {
  BodyModel,
  loadBodyModel,
  type BodyModelData,
  type BodyModelOptions,
  type BodyOutput,
  type BodyParameters,
} from "./model/body-model.ts";
export { mannequin, mannequinSurface } from "./mannequin/mannequin.ts";
export { expressionNames, shapeNames } from "./mannequin/spaces.ts";
export { ambientOcclusion } from "./raster/occlusion.ts";
export { surfaceColours, surfaceShader } from "./raster/surface.ts";
export { Rasteriser, vertexNormals, type Camera, type Picture, type RasterOptions, type Shader } from "./raster/rasterise.ts";
export { shade, skyMaterial, toByte, type Material } from "./raster/shading.ts";
export {
  checkMotion,
  emptyMotion,
  motionFields,
  motionWidths,
  resampleMotion,
  sliceMotion,
  type Motion,
  type MotionCamera,
  type MotionField,
} from "./motion/motion.ts";
export { loadMotion, saveMotion, toTalkshow } from "./motion/files.ts";
export type { FitPictures } from "./fit/appearance.ts";
export { fitMotion, type FitOptions, type FitStage } from "./fit/fit.ts";
export { anyoneSeen } from "./fit/initial.ts";
export { fitParts, joinMotions, type FitPart } from "./fit/join.ts";
export { fitReport, type ErrorSummary, type FitReport } from "./fit/report.ts";
export type { FrameLandmarks, Landmark } from "./fit/landmarks.ts";
export { Poser } from "./motion/poser.ts";
export type { Region, Surface } from "./mannequin/parts.ts";
