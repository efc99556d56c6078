export { createDetector, type Detector } from "./detector.ts";
export { cocoNames, type Detection, type FaceLandmarks, type HandLandmarks, type PersonLandmarks, type Point } from "./landmarks.ts";
