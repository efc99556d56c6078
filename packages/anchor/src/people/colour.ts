/** Colours and patterns of what people wear and stand before. */
import type { Dice } from "./random.ts";

/** Linear light, 0..1. */
export type Colour = readonly [number, number, number];

/** Hue 0..1, saturation and value 0..1 as an artist means them, to linear light. */
export function hsv(h: number, s: number, v: number): Colour {
  const f = (n: number) => {
    const k = (n + h * 6) % 6;
    return (v - v * s * Math.max(0, Math.min(k, 4 - k, 1))) ** 2.2;
  };
  return [f(5), f(3), f(1)];
}

export const mixed = (a: Colour, b: Colour, t: number): Colour => [
  a[0] + (b[0] - a[0]) * t,
  a[1] + (b[1] - a[1]) * t,
  a[2] + (b[2] - a[2]) * t,
];
export const scaled = (a: Colour, k: number): Colour => [a[0] * k, a[1] * k, a[2] * k];

export interface Pattern {
  kind: "plain" | "stripes" | "checks" | "dots" | "herringbone" | "flowers" | "blocks";
  colour: Colour;
  second: Colour;
  /** Repeats a metre. */
  frequency: number;
  /** Direction of stripes, rad. */
  angle: number;
  /** Share that the second colour takes. */
  share: number;
}

/** Cloth: mostly muted, sometimes loud; mostly plain. */
export function randomCloth(d: Dice, plain = 0.55): Pattern {
  const colour = d.chance(0.35)
    ? hsv(d.range(0, 1), d.range(0, 0.15), d.range(0.08, 0.97))
    : hsv(d.range(0, 1), d.range(0.2, 0.95), d.range(0.12, 0.95));
  const kinds = ["stripes", "stripes", "checks", "checks", "dots", "herringbone", "flowers", "blocks"] as const;
  const near = d.chance(0.5);
  return {
    kind: d.chance(plain) ? "plain" : d.pick(kinds),
    colour,
    second: near
      ? scaled(colour, d.chance(0.5) ? d.range(0.3, 0.8) : d.range(1.2, 2))
      : hsv(d.range(0, 1), d.range(0, 0.9), d.range(0.1, 1)),
    frequency: d.range(14, 70),
    angle: d.pick([0, 0, Math.PI / 2, d.range(0, Math.PI)]),
    share: d.range(0.15, 0.5),
  };
}

const wrap = (x: number) => x - Math.floor(x);
/** A fixed number in 0..1 for a place on a whole grid. */
export function hash(i: number, j: number): number {
  let h = Math.imul(i | 0, 0x27d4eb2d) ^ Math.imul((j | 0) + 0x165667b1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return ((h ^ (h >>> 13)) >>> 0) / 4294967296;
}

/** The pattern's colour at a place of the cloth, metres. */
export function patternAt(p: Pattern, x: number, y: number): Colour {
  if (p.kind === "plain") return p.colour;
  const [c, s] = [Math.cos(p.angle), Math.sin(p.angle)];
  const u = (c * x + s * y) * p.frequency;
  const v = (c * y - s * x) * p.frequency;
  const second = (yes: boolean): Colour => (yes ? p.second : p.colour);
  switch (p.kind) {
    case "stripes":
      return second(wrap(u) < p.share);
    case "checks": {
      const both = (wrap(u) < p.share ? 1 : 0) + (wrap(v) < p.share ? 1 : 0);
      return mixed(p.colour, p.second, both / 2);
    }
    case "dots":
      return second(Math.hypot(wrap(u) - 0.5, wrap(v + 0.5 * (Math.floor(u) & 1)) - 0.5) < 0.25 + 0.3 * p.share);
    case "herringbone":
      return second(wrap(u + (wrap(v / 4) < 0.5 ? v : -v)) < p.share);
    case "blocks":
      return mixed(p.colour, p.second, Math.floor(hash(Math.floor(u / 3), Math.floor(v / 3)) * 4) / 3);
    case "flowers": {
      const [i, j] = [Math.floor(u / 2), Math.floor(v / 2)];
      const [dx, dy] = [wrap(u / 2) - 0.3 - 0.4 * hash(i, j), wrap(v / 2) - 0.3 - 0.4 * hash(j, i + 7)];
      const r = Math.hypot(dx, dy);
      if (r < 0.07) return scaled(p.second, 0.4);
      return second(r < 0.2 + 0.07 * Math.cos(5 * Math.atan2(dy, dx)));
    }
  }
}
