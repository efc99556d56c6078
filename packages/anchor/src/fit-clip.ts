/** The body fit of a clip: to the landmarks that were found in it, then to its pictures. */
import { decodeVideo } from "@make-your-anchor/media";
import { fitMotion, type BodyModelData, type FitPictures, type FitReport, type Motion } from "@make-your-anchor/body";
import { toPlanes } from "./dataset.ts";
import { observedSize, type Observation } from "./observe.ts";
import type { WorkOptions } from "./progress.ts";

/** Side of the pictures that are fitted to, pixels. */
const pictureSize = 128;
/** Most of them, so that memory is bounded: of a longer clip every second frame is looked at, or every third; those between follow by smoothness. */
const mostPictures = 1500;

/** @param path the clip `seen` was seen in */
export async function fitClip(
  path: string,
  data: BodyModelData,
  seen: Omit<Observation, "info">,
  o: WorkOptions,
): Promise<{ motion: Motion; report: FitReport }> {
  const { crop, fps, landmarks } = seen;
  const every = Math.ceil(landmarks.length / mostPictures);
  const pictures: FitPictures = { size: pictureSize, frames: [], planes: [] };
  let i = 0;
  for await (const frame of decodeVideo(path, { fps, crop, width: pictureSize, height: pictureSize, signal: o.signal })) {
    if (i >= landmarks.length) break;
    // Where the person is not to be seen, the picture shows something else.
    const { body, face } = landmarks[i];
    if (i % every === 0 && (face !== undefined || body.some(Boolean))) {
      pictures.frames.push(i);
      pictures.planes.push(toPlanes(frame));
    }
    i++;
  }
  return fitMotion(data, landmarks, {
    width: observedSize,
    height: observedSize,
    fps,
    pictures,
    signal: o.signal,
    onProgress: (done, total) => o.onProgress?.({ stage: "fitting the body", done, total }),
  });
}
