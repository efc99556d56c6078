/**
 * A long clip is fitted part by part, so that memory is bounded by a part and an interruption loses one: parts overlap, and where they do the motion
 * goes over from one to the next.
 */
import { motionFields, motionWidths, type Motion } from "../motion/motion.ts";

/** Frames `from` … `to − 1`. */
export interface FitPart {
  from: number;
  to: number;
}

/**
 * Parts of equal length that cover a clip, each overlapping the next.
 * @param most    frames of a part
 * @param overlap frames that two neighbours share, below half of `most`; the last two may share a few more
 */
export function fitParts(frames: number, most: number, overlap: number): FitPart[] {
  if (frames <= most) return [{ from: 0, to: frames }];
  const count = Math.ceil((frames - overlap) / (most - overlap));
  const length = Math.ceil((frames + (count - 1) * overlap) / count);
  return Array.from({ length: count }, (_, k) => {
    const from = Math.min(k * (length - overlap), frames - length);
    return { from, to: from + length };
  });
}

/** The same motion, as its camera sees it: the camera takes the distance, the motion what moves about it. The body stays near the origin, where the lights belong. */
export function centred(m: Motion): Motion {
  const { transl } = m.camera!;
  const middle = [0, 1, 2].map((k) => {
    let sum = 0;
    for (let f = 0; f < m.frames; f++) sum += m.transl[3 * f + k];
    return sum / m.frames;
  });
  return {
    ...m,
    transl: m.transl.map((v, i) => v - middle[i % 3]),
    camera: { ...m.camera!, transl: [transl[0] + middle[0], transl[1] + middle[1], transl[2] + middle[2]] },
  };
}

/**
 * One motion of parts that were fitted with one shape by one camera. Fitted angles start from one rest and stay within limits: they can be mixed as they are.
 * @param motions of each part; undefined where nobody is seen in it: what lies between its neighbours bridges it
 */
export function joinMotions(parts: readonly FitPart[], motions: readonly (Motion | undefined)[]): Motion {
  const frames = parts.at(-1)!.to;
  const first = motions.find((m) => m !== undefined)!;
  if (parts.length === 1) return first;
  const joined: Motion = { ...first, frames, camera: { ...first.camera!, transl: [0, 0, 0] } };
  /** Frames that an earlier part has told: 1. */
  const told = new Uint8Array(frames);
  const shares = parts.map(({ from, to }, k) => {
    if (!motions[k]) return undefined;
    let shared = 0;
    while (from + shared < to && told[from + shared]) shared++;
    told.fill(1, from, to);
    return Float32Array.from({ length: to - from }, (_, f) => (f < shared ? (f + 0.5) / shared : 1));
  });
  const field = (width: number, of: (m: Motion) => Float32Array): Float32Array => {
    const out = new Float32Array(frames * width);
    parts.forEach(({ from }, k) => {
      const motion = motions[k];
      if (!motion) return;
      const values = of(motion);
      shares[k]!.forEach((share, f) => {
        for (let i = 0; i < width; i++) {
          const at = (from + f) * width + i;
          out[at] = (1 - share) * out[at] + share * values[f * width + i];
        }
      });
    });
    bridge(out, width, told);
    return out;
  };
  for (const name of motionFields) joined[name] = field(motionWidths[name], (m) => m[name]);
  joined.transl = field(3, (m) => m.transl.map((v, i) => v + m.camera!.transl[i % 3]));
  joined.expression = field(first.expressionWidth, (m) => m.expression);
  return centred(joined);
}

/** Fills rows that nobody told from those before and after, in equal steps. */
function bridge(rows: Float32Array, width: number, told: Uint8Array): void {
  for (let from = told.indexOf(0); from >= 0; from = told.indexOf(0, from)) {
    const next = told.indexOf(1, from);
    const to = next < 0 ? told.length : next;
    const before = from > 0 ? from - 1 : next;
    const after = next < 0 ? before : next;
    for (let f = from; f < to; f++) {
      const t = (f - from + 1) / (to - from + 1);
      for (let i = 0; i < width; i++) rows[f * width + i] = (1 - t) * rows[before * width + i] + t * rows[after * width + i];
    }
    from = to;
  }
}
