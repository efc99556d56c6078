/** Where a face is, from its landmarks alone: no parsing network, no weights. */
import type { XY } from "../align/five-points.ts";

/** Convex hull, counter-clockwise in a frame with y up (Andrew's monotone chain). */
function convexHull(points: readonly XY[]): XY[] {
  const sorted = points.toSorted((a, b) => a.x - b.x || a.y - b.y);
  const half = (list: readonly XY[]) => {
    const out: XY[] = [];
    for (const p of list) {
      while (out.length >= 2) {
        const [a, b] = [out[out.length - 2], out[out.length - 1]];
        if ((b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x) > 0) break;
        out.pop();
      }
      out.push(p);
    }
    return out.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.toReversed())];
}

/** The inner landmarks end at the brows and the lips; a face goes on to forehead, cheeks and chin. */
const grown = { across: 1.4, along: 1.55 } as const;

/**
 * The outline of the face around its inner landmarks: their hull, grown across and along the line from the mouth to the eyes.
 * @param eyes the middle of both eyes, and the mouth: they give the face's own axes
 */
export function faceOutline(inner: readonly XY[]): XY[] {
  const mean = (from: number, to: number): XY => {
    const part = inner.slice(from, to);
    return { x: part.reduce((s, p) => s + p.x, 0) / part.length, y: part.reduce((s, p) => s + p.y, 0) / part.length };
  };
  const [eyes, mouth] = [mean(19, 31), mean(31, 51)];
  const length = Math.hypot(eyes.x - mouth.x, eyes.y - mouth.y) || 1;
  const up = { x: (eyes.x - mouth.x) / length, y: (eyes.y - mouth.y) / length };
  const center = mean(0, inner.length);
  return convexHull(inner).map((p) => {
    const [dx, dy] = [p.x - center.x, p.y - center.y];
    const along = (dx * up.x + dy * up.y) * grown.along;
    const across = (dx * -up.y + dy * up.x) * grown.across;
    return { x: center.x + up.x * along - up.y * across, y: center.y + up.y * along + up.x * across };
  });
}

/** Whether a point lies inside a convex outline. */
export function insideOutline(outline: readonly XY[], p: XY): boolean {
  let sign = 0;
  for (let i = 0; i < outline.length; i++) {
    const [a, b] = [outline[i], outline[(i + 1) % outline.length]];
    const side = Math.sign((b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x));
    if (side !== 0 && sign !== 0 && side !== sign) return false;
    if (side !== 0) sign = side;
  }
  return outline.length > 2;
}

/**
 * The inpainting mask: 0 where the face is to be painted, 255 where the picture is kept (the head model's reversed meaning).
 * @param outline in pixels of the mask, convex
 */
export function outlineMask(outline: readonly XY[], { width, height }: { width: number; height: number }): Uint8Array {
  const out = new Uint8Array(width * height).fill(255);
  for (let y = 0; y < height; y++) {
    let [left, right] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let i = 0; i < outline.length; i++) {
      const [a, b] = [outline[i], outline[(i + 1) % outline.length]];
      if (a.y === b.y || y < Math.min(a.y, b.y) || y > Math.max(a.y, b.y)) continue;
      const x = a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x);
      left = Math.min(left, x);
      right = Math.max(right, x);
    }
    for (let x = Math.max(0, Math.ceil(left)); x <= Math.min(width - 1, Math.floor(right)); x++) out[y * width + x] = 0;
  }
  return out;
}
