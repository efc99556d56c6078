/** Frame windows of the original's long-video sampler. */
import { TorchError } from "@make-your-anchor/torch";

export interface Window {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

/**
 * Windows starting every `size − overlap` frames, each cut at the end. Nothing wraps and nothing is dropped: a last window that
 * lies wholly inside the one before stays, even of one frame, and counts in the average.
 */
export function overlapWindows(frames: number, size: number, overlap: number): Window[] {
  if (!(Number.isInteger(size) && Number.isInteger(overlap) && size > 0 && overlap >= 0 && overlap < size)) {
    throw new TorchError(
      "WINDOW",
      `windows: expected a size above the overlap and an overlap of at least 0, got size ${size}, overlap ${overlap}`,
    );
  }
  const out: Window[] = [];
  for (let from = 0; from < frames; from += size - overlap) out.push({ from, to: Math.min(frames, from + size) });
  return out;
}

/** The key-frame variant: key frames every `size − 1` and the last, and the frames strictly between them. */
export function keyFrameWindows(frames: number, size: number): { keyFrames: number[]; between: number[][] } {
  const keyFrames: number[] = [];
  for (let i = 0; i < frames; i += size - 1) keyFrames.push(i);
  if (keyFrames[keyFrames.length - 1] !== frames - 1) keyFrames.push(frames - 1);
  const between: number[][] = [];
  for (let k = 0; k + 1 < keyFrames.length; k++) {
    const inner: number[] = [];
    for (let i = keyFrames[k] + 1; i < keyFrames[k + 1]; i++) inner.push(i);
    if (inner.length > 0) between.push(inner);
  }
  return { keyFrames, between };
}
