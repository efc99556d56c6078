/** Masks out of a parsed face. Classes are CelebAMask-HQ's 19, in the order of face-parsing.PyTorch. */
import { conv2d, fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { dilateBox } from "@make-your-anchor/media";

/** Background, neck, necklace, cloth, hair, hat: what the head model does not paint. */
const notFace = new Set([0, 14, 15, 16, 17, 18]);

/**
 * The inpainting mask of a label map, the face grown by a pixel on each side.
 * @param painted what marks the part to be painted: black, as the head model takes it (white is kept), or white
 */
export function maskOfLabels(
  labels: Uint8Array,
  size: { width: number; height: number },
  painted: "black" | "white" = "black",
): Uint8Array {
  const face = dilateBox(
    Float32Array.from(labels, (v) => (notFace.has(v) ? 0 : 255)),
    size,
    3,
  );
  return Uint8Array.from(face, (v) => (painted === "black" ? 255 - v : v));
}

const inside = [11];
const faceParts = {
  /** With ears and neck. */
  wide: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14, 17],
  /** Without them. */
  narrow: [1, 2, 3, 4, 5, 6, 10, 12, 13, 17],
} as const;

/** Parts for the paste-back, 0 or 255: the face with its hair (which the original adds to SimSwap's), and the inside of the mouth. */
export function partsOfLabels(labels: Uint8Array, which: keyof typeof faceParts = "wide"): [face: Uint8Array, mouth: Uint8Array] {
  const pick = (classes: readonly number[]) => labels.map((v) => (classes.includes(v) ? 255 : 0));
  return [pick(faceParts[which]), pick(inside)];
}

/** SimSwap's SoftErosion: a mask drawn in from its edge, and the edge made soft. */
export class SoftErosion {
  private readonly size: number;
  private readonly threshold: number;
  private readonly iterations: number;

  constructor(size = 17, threshold = 0.9, iterations = 7) {
    this.size = size;
    this.threshold = threshold;
    this.iterations = iterations;
  }

  private kernel(): Tensor {
    const radius = this.size >> 1;
    const distances = Float64Array.from({ length: this.size ** 2 }, (_, i) =>
      Math.hypot(Math.floor(i / this.size) - radius, (i % this.size) - radius),
    );
    const most = distances.reduce((a, b) => Math.max(a, b));
    const total = distances.reduce((sum, d) => sum + most - d, 0);
    return fromData(
      Float32Array.from(distances, (d) => (most - d) / total),
      [1, 1, this.size, this.size],
    );
  }

  /** @param mask `[height, width]`, 0..1. @returns the softened mask, and where it is solid */
  apply(mask: Float32Array, { width, height }: { width: number; height: number }): { soft: Float32Array; solid: Uint8Array } {
    return scope(() =>
      noGrad(() => {
        const kernel = this.kernel();
        const spread = (t: Tensor) => conv2d(t, kernel, null, 1, this.size >> 1);
        let x = fromData(mask, [1, 1, height, width]);
        for (let i = 0; i < this.iterations - 1; i++) x = scope(() => x.minimum(spread(x)));
        const values = spread(x).floats();
        let most = 0;
        for (const v of values) if (v < this.threshold) most = Math.max(most, v);
        const solid = Uint8Array.from(values, (v) => (v >= this.threshold ? 1 : 0));
        return { soft: values.map((v, i) => (solid[i] ? 1 : most > 0 ? v / most : v)), solid };
      }),
    );
  }
}
