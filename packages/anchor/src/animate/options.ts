/** What `animate` is asked for. */
import type { ComputeOptions } from "../compute.ts";
import type { SamplingOptions } from "../generate.ts";
import type { FaceOptions } from "../head/paint.ts";
import type { WorkOptions } from "../progress.ts";

export interface AnimateOptions extends WorkOptions, ComputeOptions, SamplingOptions, FaceOptions {
  /** A motion file (.npz, .npy), another avatar's folder, or a clip. */
  motion?: string;
  /** A folder of ready condition pictures instead of a motion. */
  conditions?: string;
  /** Where the video goes; default `videos/<name>/video.mp4` in the avatar's folder. */
  out?: string;
  /** Sound to put under the video; default the sound of the clip that the motion comes from. */
  audio?: string;
  /** Frames a second of ready conditions; default the avatar's. */
  fps?: number;
  /** Only the first so many frames. */
  frames?: number;
  /** SCRFD as ONNX, to find faces in ready condition pictures; default the detector that comes with the tool. */
  faceDetector?: string;
  /** Renders every frame anew. */
  fresh?: boolean;
}
