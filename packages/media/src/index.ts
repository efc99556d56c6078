export { MediaError } from "./errors.ts";
export { blankImage, bytesRounded, bytesTruncated, crop, encodePng, paste, readImage, toLuma, writePng, type RgbImage } from "./image.ts";
export { resizeCv2, resizePil, type Filter } from "./resize.ts";
export {
  decodeVideo,
  extractAudio,
  probeVideo,
  requireEncoder,
  requireSound,
  VideoWriter,
  type DecodeOptions,
  type EncodeOptions,
  type VideoInfo,
} from "./video.ts";
export { applyAffine, cubicWeights, invertAffine, warpAffine, warpPlanes, warpPlanesCubic, type Affine } from "./warp.ts";
export { dilateBox, erodeBox, gaussianBlur } from "./filters.ts";
