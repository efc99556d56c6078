/** SCRFD (InsightFace, arXiv:2105.04714) around its network: what goes in, and faces out of what comes out. */
import { blankImage, paste, resizeCv2, type RgbImage } from "@make-your-anchor/media";

export interface ScrfdFace {
  /** x1, y1, x2, y2 in pixels of the frame. */
  readonly box: readonly [number, number, number, number];
  readonly score: number;
  /** Left eye, right eye, nose, left and right mouth corner, left as seen in the picture. */
  readonly points: readonly (readonly [number, number])[];
}

/** Raw outputs at one stride; rows run over the grid line by line, two anchors a cell. */
export interface ScrfdLevel {
  readonly stride: number;
  /** `[N]`, 0..1. */
  readonly scores: Float32Array;
  /** `[N, 4]`: left, top, right, bottom distance in strides. */
  readonly boxes: Float32Array;
  /** `[N, 10]`: five offsets in strides. */
  readonly points: Float32Array;
}

export const scrfdStrides = [8, 16, 32] as const;
const anchorsPerCell = 2;

export interface ScrfdInput {
  /** `[3, side, side]`, RGB, (x − 127.5) / 128, the picture at the top left, black elsewhere. */
  readonly blob: Float32Array;
  /** Canvas pixels a frame pixel. */
  readonly scale: number;
}

/** A frame on the network's square canvas. */
export function scrfdInput(frame: RgbImage, side = 640): ScrfdInput {
  const tall = frame.height > frame.width;
  const ratio = frame.height / frame.width;
  const width = tall ? Math.trunc(side / ratio) : side;
  const height = tall ? side : Math.trunc(side * ratio);
  const canvas = blankImage(side, side);
  paste(canvas, resizeCv2(frame, width, height), 0, 0);
  const n = side * side;
  const blob = new Float32Array(3 * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) blob[c * n + i] = (canvas.data[3 * i + c] - 127.5) / 128;
  return { blob, scale: height / frame.height };
}

export interface ScrfdDecoding {
  /** Side of the network's canvas. Default 640. */
  side?: number;
  /** Default 0.6, as the original. */
  threshold?: number;
  /** Overlap above which the weaker of two faces goes. Default 0.4. */
  iou?: number;
}

/** Faces in frame pixels, best first. Widths count pixels: a box from 3 to 5 is 3 wide, as in the reference. */
export function decodeScrfd(levels: readonly ScrfdLevel[], scale: number, o: ScrfdDecoding = {}): ScrfdFace[] {
  const { side = 640, threshold = 0.6, iou = 0.4 } = o;
  const found: { box: [number, number, number, number]; score: number; points: [number, number][] }[] = [];
  for (const { stride, scores, boxes, points } of levels) {
    const columns = Math.ceil(side / stride);
    for (let i = 0; i < scores.length; i++) {
      if (!(scores[i] >= threshold)) continue;
      const cell = Math.floor(i / anchorsPerCell);
      const [x, y] = [(cell % columns) * stride, Math.floor(cell / columns) * stride];
      const d = (k: number) => boxes[4 * i + k] * stride;
      found.push({
        score: scores[i],
        box: [(x - d(0)) / scale, (y - d(1)) / scale, (x + d(2)) / scale, (y + d(3)) / scale],
        points: Array.from({ length: 5 }, (_, k): [number, number] => [
          (x + points[10 * i + 2 * k] * stride) / scale,
          (y + points[10 * i + 2 * k + 1] * stride) / scale,
        ]),
      });
    }
  }
  found.sort((a, b) => b.score - a.score);
  const area = (b: readonly number[]) => (b[2] - b[0] + 1) * (b[3] - b[1] + 1);
  const kept: ScrfdFace[] = [];
  for (const face of found) {
    const covered = kept.some(({ box }) => {
      const w = Math.max(0, Math.min(box[2], face.box[2]) - Math.max(box[0], face.box[0]) + 1);
      const h = Math.max(0, Math.min(box[3], face.box[3]) - Math.max(box[1], face.box[1]) + 1);
      return (w * h) / (area(box) + area(face.box) - w * h) > iou;
    });
    if (!covered) kept.push(face);
  }
  return kept;
}
