/** How much of the surroundings' light reaches a drawn surface, by the depths around it: dark between fingers, under an arm, beside a sleeve. */
import type { Camera } from "./rasterise.ts";

/** Pairs of opposite directions that are looked along, and how far on each of them, as shares of the radius. */
const pairs = 6;
const steps = [0.4, 1] as const;
/** Fewer pixels than this a surface cannot be told from its neighbour. */
const leastReach = 1;

/**
 * Opposite neighbours that both lie before a point shut it in; of a plane, sloped or not, one lies as far before as the other behind, and a point on
 * an outward bend is free.
 * @param inverse 1/z of what is seen at every pixel, 0 for nothing (`Rasteriser.nearest`), `[height, width]`
 * @param radius metres; what is farther before a point counts as much as this
 * @returns how shut in each pixel is, 0..1; 0 where nothing is seen. `[height, width]`
 */
export function ambientOcclusion(inverse: Float32Array, camera: Pick<Camera, "focal" | "width" | "height">, radius: number): Float32Array {
  const { width, height, focal } = camera;
  const out = new Float32Array(width * height);
  const directions = Array.from({ length: pairs }, (_, k) => {
    const angle = ((k + 0.5) * Math.PI) / pairs;
    return [Math.cos(angle), Math.sin(angle)] as const;
  });
  /** Metres that what is seen at a place lies before `z`, at most the radius either way. */
  const before = (x: number, y: number, z: number): number => {
    const [i, j] = [Math.max(0, Math.min(width - 1, Math.round(x))), Math.max(0, Math.min(height - 1, Math.round(y)))];
    const there = inverse[j * width + i];
    return there === 0 ? -radius : Math.max(-radius, Math.min(radius, z - 1 / there));
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const p = y * width + x;
      if (inverse[p] === 0) continue;
      const z = 1 / inverse[p];
      const reach = focal * radius * inverse[p];
      let sum = 0;
      for (const share of steps) {
        const r = Math.max(leastReach, share * reach);
        for (const [dx, dy] of directions)
          sum += Math.max(0, before(x + r * dx, y + r * dy, z) + before(x - r * dx, y - r * dy, z)) / (2 * radius);
      }
      out[p] = sum / (pairs * steps.length);
    }
  }
  return out;
}
