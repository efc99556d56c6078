/** One face through the frames of a video: gaps bridged, the crop's movement smoothed, and a word on every frame. */
import type { Affine } from "@make-your-anchor/media";
import { alignFace } from "../align/align.ts";
import { fivePoints, type XY } from "../align/five-points.ts";
import type { TemplateName } from "../align/templates.ts";

/**
 * What became of the face in a frame. Painted: `found`, and `bridged` (not seen, but shortly before and after). Passed through: `missing`,
 * `turned` away from the camera, `covered` by a hand, `outside` the frame.
 */
export type FaceState = "found" | "bridged" | "missing" | "turned" | "covered" | "outside";

/** What was seen in one frame by itself. */
export interface FaceSight {
  state: Exclude<FaceState, "bridged">;
  /** 51 inner landmarks in pixels of the frame; null where nothing was seen. They may be known of a face that is not to be painted. */
  inner: readonly XY[] | null;
}

export interface TrackedFace {
  state: FaceState;
  /** Whether to paint it; otherwise the frame is passed through. */
  painted: boolean;
  /** From the frame to the crop; null where nothing was seen. */
  matrix: Affine | null;
  inner: readonly XY[] | null;
  /** How much of the painted face to show, 0..1: it fades in and out beside frames that are passed through. */
  strength: number;
}

export interface TrackOptions {
  /** Side of the crop, pixels. */
  size: number;
  template?: TemplateName;
  /** Deviation of the smoothing over time, frames; 0 leaves it out. Default 1.5. */
  smooth?: number;
  /** Longest gap that is bridged, frames. Default 6. */
  maxGap?: number;
}

/** Looks at frames as they are needed, a few ahead of the one asked for, and forgets them behind it: memory does not grow. */
export class FaceTrack {
  private readonly see: (frame: number) => FaceSight | Promise<FaceSight>;
  private readonly frames: number;
  private readonly o: Required<TrackOptions>;
  private readonly radius: number;
  private readonly sights = new Map<number, FaceSight>();

  constructor(see: (frame: number) => FaceSight | Promise<FaceSight>, frames: number, options: TrackOptions) {
    this.see = see;
    this.frames = frames;
    this.o = { template: "ffhq", smooth: 1.5, maxGap: 6, ...options };
    this.radius = Math.ceil(2 * this.o.smooth);
  }

  private async sight(i: number): Promise<FaceSight | null> {
    if (i < 0 || i >= this.frames) return null;
    const known = this.sights.get(i);
    if (known) return known;
    const seen = await this.see(i);
    this.sights.set(i, seen);
    return seen;
  }

  /** The frame's own sight, or one between its neighbours where it was missed for a short while. */
  private async filled(i: number): Promise<{ state: FaceState; inner: readonly XY[] | null } | null> {
    const own = await this.sight(i);
    if (!own || own.inner || own.state !== "missing") return own;
    const { maxGap } = this.o;
    const nearest = async (step: 1 | -1) => {
      for (let d = 1; d <= maxGap; d++) {
        const s = await this.sight(i + step * d);
        if (!s) return null;
        if (s.inner) return s.state === "found" ? { d, inner: s.inner } : null;
      }
      return null;
    };
    const [before, after] = [await nearest(-1), await nearest(1)];
    if (!before || !after || before.d + after.d - 1 > maxGap) return own;
    const t = before.d / (before.d + after.d);
    return {
      state: "bridged",
      inner: before.inner.map((p, k) => ({ x: p.x + t * (after.inner[k].x - p.x), y: p.y + t * (after.inner[k].y - p.y) })),
    };
  }

  /** Frames are best asked for in order: what lies well behind the one asked for is forgotten and would be looked at anew. */
  async at(i: number): Promise<TrackedFace> {
    const reach = this.radius + this.o.maxGap;
    for (const j of this.sights.keys()) if (j < i - 2 * reach) this.sights.delete(j);
    const own = await this.filled(i);
    if (!own?.inner) return nothing;
    const sum = [0, 0, 0, 0, 0, 0];
    let [total, painted, all] = [0, 0, 0];
    for (let j = i - this.radius; j <= i + this.radius; j++) {
      const near = j === i ? own : await this.filled(j);
      if (!near) continue; // before the first frame, or behind the last
      const weight = this.o.smooth > 0 ? Math.exp(-((j - i) ** 2) / (2 * this.o.smooth ** 2)) : 1;
      all += weight;
      if (paintable(near.state)) painted += weight;
      const aligned = near.inner && alignFace(fivePoints(near.inner), this.o.size, this.o.template);
      if (!aligned) continue;
      aligned.matrix.forEach((v, k) => (sum[k] += weight * v));
      total += weight;
    }
    if (total === 0) return nothing;
    const shown = paintable(own.state);
    // Similarities a frame or two apart differ little: their mean is one again, to that accuracy exactly (a = d, b = −c).
    const [a, b, tx, c, d, ty] = sum.map((v) => v / total);
    return { state: own.state, painted: shown, matrix: [a, b, tx, c, d, ty], inner: own.inner, strength: shown ? painted / all : 0 };
  }
}

const nothing: TrackedFace = { state: "missing", painted: false, matrix: null, inner: null, strength: 0 };

const paintable = (state: FaceState): boolean => state === "found" || state === "bridged";
