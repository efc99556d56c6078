/** What a made-up person looks like: every choice, drawn from a seed. */
import { hsv, mixed, randomCloth, scaled, type Colour, type Pattern } from "./colour.ts";
import type { Dice } from "./random.ts";

export interface Look {
  /** Of the mannequin. `[10]` */
  betas: Float32Array;
  /** How far the face and body are from what the shape space holds: directions of a smooth field, metres. */
  features: { amplitude: number; phase: readonly number[] };
  skin: Colour;
  lips: Colour;
  /** Freckles, moles and unevenness, 0..1. */
  blemish: number;
  iris: Colour;
  hair: {
    style: "bald" | "cropped" | "short" | "side" | "bob" | "long";
    colour: Colour;
    /** Height of the hairline over the brow, metres of the template. */
    line: number;
    /** Where the parting is, metres from the middle. */
    parting: number;
    volume: number;
    /** Strands and waves: depth and repeats a metre. */
    wave: number;
    frequency: number;
  };
  brow: { colour: Colour; thickness: number };
  beard: { kind: "stubble" | "full" | "moustache" | "goatee"; colour: Colour; density: number } | null;
  glasses: { colour: Colour; radius: number; thickness: number; round: number } | null;
  /** Next to the skin. */
  top: {
    pattern: Pattern;
    neck: "crew" | "v" | "collar" | "turtle" | "wide";
    depth: number;
    /** Where the sleeve ends along the arm, metres of the template from the middle (0.3 short, 0.65 long). */
    sleeve: number;
    push: number;
    folds: number;
    foldFrequency: number;
    buttons: boolean;
    /** A printed sign on the chest. */
    print: Pattern | null;
  };
  jacket: { pattern: Pattern; opening: number; button: number; lapel: number; lapelColour: Colour; push: number } | null;
  tie: { pattern: Pattern; width: number; bow: boolean } | null;
  shine: number;
}

const hairColours: readonly Colour[] = [
  hsv(0.08, 0.5, 0.12),
  hsv(0.07, 0.6, 0.22),
  hsv(0.07, 0.6, 0.36),
  hsv(0.09, 0.55, 0.55),
  hsv(0.11, 0.45, 0.78),
  hsv(0.04, 0.75, 0.5),
  hsv(0.1, 0.05, 0.6),
  hsv(0.1, 0.03, 0.85),
];

export function randomLook(d: Dice): Look {
  const skinTones: readonly Colour[] = [
    hsv(0.065, 0.28, 0.93),
    hsv(0.07, 0.4, 0.82),
    hsv(0.07, 0.5, 0.66),
    hsv(0.06, 0.55, 0.48),
    hsv(0.055, 0.55, 0.3),
  ];
  const at = d.range(0, skinTones.length - 1.001);
  const base = mixed(skinTones[Math.floor(at)], skinTones[Math.floor(at) + 1], at % 1);
  const skin = [base[0] * d.range(0.92, 1.08), base[1] * d.range(0.92, 1.08), base[2] * d.range(0.9, 1.1)] as const;
  const dyed = d.chance(0.05);
  const hairColour = dyed ? hsv(d.range(0, 1), 0.7, d.range(0.3, 0.8)) : scaled(d.pick(hairColours), d.range(0.7, 1.3));
  const style = d.pick(["bald", "cropped", "short", "short", "short", "side", "side", "bob", "bob", "long", "long"] as const);
  const neck = d.pick(["crew", "crew", "v", "collar", "collar", "collar", "turtle", "wide"] as const);
  const jacket = d.chance(0.42);
  const cloth = randomCloth(d, jacket ? 0.4 : 0.55);
  const sleeve = jacket || d.chance(0.55) ? d.range(0.6, 0.66) : d.chance(0.7) ? d.range(0.26, 0.38) : d.range(0.4, 0.55);
  const jacketCloth = randomCloth(d, 0.7);
  return {
    betas: Float32Array.from({ length: 10 }, (_, k) => d.normal(0, [0.7, 0.9, 0.7, 0.6, 0.3, 0.6, 0.7, 0.7, 0.7, 0.9][k])),
    features: { amplitude: d.range(0.001, 0.005), phase: Array.from({ length: 18 }, () => d.range(0, 2 * Math.PI)) },
    skin,
    lips: [skin[0] * d.range(0.75, 1), skin[1] * d.range(0.4, 0.7), skin[2] * d.range(0.45, 0.75)],
    blemish: d.range(0, 0.3),
    iris: d.pick([hsv(0.07, 0.7, 0.25), hsv(0.07, 0.6, 0.4), hsv(0.58, 0.45, 0.55), hsv(0.3, 0.35, 0.45), hsv(0.6, 0.1, 0.5)]),
    hair: {
      style,
      colour: hairColour,
      line: d.range(0.382, 0.412),
      parting: d.range(-0.05, 0.05),
      volume: style === "cropped" ? d.range(0.002, 0.005) : d.range(0.006, 0.03),
      wave: d.range(0, 0.005),
      frequency: d.range(60, 240),
    },
    brow: { colour: dyed ? hsv(0.07, 0.5, 0.2) : scaled(hairColour, d.range(0.5, 0.9)), thickness: d.range(0.0025, 0.006) },
    beard: d.chance(0.28)
      ? {
          kind: d.pick(["stubble", "full", "full", "moustache", "goatee"] as const),
          colour: scaled(hairColour, d.range(0.6, 1)),
          density: d.range(0.3, 1),
        }
      : null,
    glasses: d.chance(0.3)
      ? {
          colour: d.chance(0.6) ? hsv(0, 0, d.range(0.03, 0.2)) : hsv(d.range(0, 1), d.range(0.1, 0.8), d.range(0.15, 0.8)),
          radius: d.range(0.02, 0.026),
          thickness: d.range(0.0015, 0.0045),
          round: d.range(2, 5),
        }
      : null,
    top: {
      pattern: cloth,
      neck,
      depth: d.range(0.02, 0.16),
      sleeve,
      push: d.range(0.004, 0.016),
      folds: d.range(0, 0.5),
      foldFrequency: d.range(14, 50),
      buttons: neck === "collar" || d.chance(0.1),
      print: neck !== "collar" && !jacket && d.chance(0.25) ? randomCloth(d, 0) : null,
    },
    jacket: jacket
      ? {
          pattern: jacketCloth,
          opening: d.range(0.1, 0.3),
          button: d.range(-0.3, -0.08),
          lapel: d.range(0.015, 0.045),
          lapelColour: scaled(jacketCloth.colour, d.range(0.5, 1.1)),
          push: d.range(0.01, 0.022),
        }
      : null,
    tie:
      neck === "collar" && d.chance(jacket ? 0.6 : 0.2)
        ? { pattern: randomCloth(d, 0.4), width: d.range(0.012, 0.026), bow: d.chance(0.12) }
        : null,
    shine: d.range(0, 0.35),
  };
}
