export { createDetector, type Detector } from "./detect/detector.ts";
export { cocoNames, type Detection, type FaceLandmarks, type HandLandmarks, type PersonLandmarks, type Point } from "./detect/landmarks.ts";
export {
  decodeScrfd,
  scrfdInput,
  scrfdStrides,
  type ScrfdDecoding,
  type ScrfdFace,
  type ScrfdInput,
  type ScrfdLevel,
} from "./detect/scrfd.ts";
export { ScrfdDetector, FaceError, type OnnxSession } from "./detect/scrfd-detector.ts";
export { alignFace, type Alignment } from "./align/align.ts";
export { similarity } from "./align/similarity.ts";
export { templates, type FivePoints, type TemplateName } from "./align/templates.ts";
export { blendFace, pasteBack, plateMask, type PasteOptions } from "./paste/paste.ts";
export { BiSeNet } from "./parse/bisenet.ts";
export { maskOfLabels, partsOfLabels, SoftErosion } from "./parse/mask.ts";
export { fivePoints, innerCount, innerFromFive, type XY } from "./align/five-points.ts";
export { alike, chooseFace, followFace, smoothly, type Followed, cosine, lastSeenOf, type LastSeen } from "./detect/choose.ts";
export { faceOutline, insideOutline, outlineMask } from "./mask/landmark-mask.ts";
export { FaceTrack, type FaceSight, type FaceState, type TrackedFace, type TrackOptions } from "./track/face-track.ts";
