export { BodyError } from "./errors.ts";
export { npyBytes, parseNpy, readNpy, readNpz, writeNpz, type NpyArray } from "./io/npy.ts";
export * as rotations from "./model/rotations.ts";
export { jointCount, jointIndex, jointNames, parents, pickedNames, smplxVertexIds, type PickedName, type VertexIds } from "./model/skeleton.ts";
export { BodyModel, loadBodyModel, type BodyModelData, type BodyModelOptions, type BodyOutput, type BodyParameters } from "./model/body-model.ts";
export { mannequin, mannequinSurface } from "./mannequin/mannequin.ts";
export { expressionNames, shapeNames } from "./mannequin/spaces.ts";
export { Rasteriser, type Camera, type Picture, type RasterOptions } from "./raster/rasterise.ts";
export { shade, skyMaterial, toByte, type Material } from "./raster/shading.ts";
