/** What covers a point of the undressed mannequin, by a look. */
import { mannequin, mannequinSurface, vertexNormals, type BodyModelData, type Region } from "@make-your-anchor/body";
import { hash, mixed, patternAt, scaled, type Colour } from "./colour.ts";
import type { Look } from "./look.ts";
import { mouth } from "./mouth.ts";

/** How a surface answers to light. */
export interface Surface {
  colour: Colour;
  /** 0..1 */
  gloss: number;
  /** Depth of its folds or strands, as a tilt of the normal. */
  bump: number;
}

type Kind =
  | "skin"
  | "lips"
  | "hair"
  | "beard"
  | "brow"
  | "white"
  | "iris"
  | "pupil"
  | "frame"
  | "top"
  | "collar"
  | "jacket"
  | "lapel"
  | "tie"
  | "button"
  | "teeth"
  | "inside";

const hairAt = (look: Look, x: number, y: number, z: number): number => {
  const { style, line, parting, volume, wave, frequency } = look.hair;
  if (style === "bald") return 0;
  const side = Math.abs(x);
  const strand = wave * Math.sin(x * frequency) * Math.sin(z * frequency * 0.7 + y * 40);
  const fringe = style === "side" ? line + 0.3 * Math.max(0, 0.05 - Math.abs(x - parting)) : line + 0.2 * side;
  const long = style === "bob" || style === "long";
  const ears = long ? 0.235 : 0.33;
  const from = z > 0.035 ? fringe : z > -0.015 ? ears + (z + 0.015) * ((fringe - ears) / 0.05) : long ? 0.16 : 0.265;
  if (y < from || (!long && side > 0.0785)) return 0;
  // A soft edge: hair lies flat at its line.
  return Math.max(0.0015, volume * Math.min(1, (y - from) / 0.02) + strand);
};

function coverAt(look: Look, x: number, y: number, z: number, region: Region): { kind: Kind; push: number } {
  const side = Math.abs(x);
  const { top, jacket, tie } = look;
  const collarLine = y > 0.15 - 0.25 * z && y < 0.192 - 0.2 * z && side < 0.085;
  switch (region) {
    case "hand":
    case "body": {
      if (side > Math.min(0.66, top.sleeve + 0.015) && !(jacket && side < 0.645)) return { kind: "skin", push: 0 };
      if (jacket && side > 0.63) return { kind: "top", push: 0.006 }; // cuffs
      if (look.hair.style === "long" && z < 0.02 && side > 0.03 && side < 0.13 && y > 0.02) return { kind: "hair", push: 0.02 };
      if (collarLine && top.neck === "collar") return { kind: "collar", push: 0.009 };
      if (top.neck === "turtle" && y > 0.13 && side < 0.08) return { kind: "collar", push: 0.008 };
      const bare =
        top.neck === "v" || top.neck === "collar"
          ? y > 0.165 - top.depth * (top.neck === "collar" && tie ? 0 : 0.6) + side * (1 + 1.2 / (1 + 10 * top.depth)) && z > -0.02
          : y > (top.neck === "wide" ? 0.1 : 0.145) + 0.35 * Math.max(0, side - 0.05);
      if (bare && side < 0.12 && top.neck !== "turtle") return { kind: "skin", push: 0 };
      const opening = jacket && z > 0 && y > jacket.button ? 0.008 + (y - jacket.button) * jacket.opening : -1;
      if (jacket && !(side < opening)) {
        const lapel = opening > 0 && side < opening + jacket.lapel - Math.abs(y - 0.02) * 0.1;
        if (!lapel && z > 0 && side < 0.009 && y < jacket.button && Math.abs(((jacket.button - y) % 0.1) - 0.03) < 0.008)
          return { kind: "button", push: jacket.push };
        return { kind: lapel ? "lapel" : "jacket", push: jacket.push };
      }
      if (tie && z > 0) {
        if (
          tie.bow
            ? y > 0.125 && y < 0.155 && side < 0.03
            : side < tie.width * (y > 0.11 ? 0.8 : 0.6 + Math.min(0.5, (0.12 - y) * 5)) && y > -0.28
        )
          return { kind: "tie", push: top.push + 0.004 };
      }
      if (top.buttons && z > 0 && side < 0.005 && Math.abs(((y + 2) % 0.075) - 0.03) < 0.005) return { kind: "button", push: top.push };
      return { kind: "top", push: top.push };
    }
    case "eye": {
      const r = Math.hypot(side - 0.032, y - 0.333);
      return { kind: z > 0.075 && r < 0.0056 ? (r < 0.0022 ? "pupil" : "iris") : "white", push: 0 };
    }
    case "head":
    case "upperLip":
    case "lowerLip": {
      if (top.neck === "collar" && collarLine && y < 0.2) return { kind: "collar", push: 0.009 };
      if (top.neck === "turtle" && y < 0.2) return { kind: "collar", push: 0.008 };
      const hair = hairAt(look, x, y, z);
      if (hair > 0) return { kind: "hair", push: hair };
      if (look.glasses && z > 0.045) {
        const { radius, thickness, round } = look.glasses;
        const d = (Math.abs((side - 0.033) / radius) ** round + Math.abs((y - 0.332) / (radius * 0.85)) ** round) ** (1 / round) * radius;
        if (Math.abs(d - radius) < thickness || (side < 0.033 - radius && Math.abs(y - 0.338) < thickness))
          return { kind: "frame", push: 0.0035 };
      }
      if (look.glasses && z > -0.02 && z <= 0.06 && side > 0.055 && Math.abs(y - 0.338) < look.glasses.thickness * 1.3)
        return { kind: "frame", push: 0.003 };
      if (z > 0.055 && Math.abs(y - 0.3555 + (side - 0.03) ** 2 * 6) < look.brow.thickness && side > 0.011 && side < 0.05)
        return { kind: "brow", push: 0.001 };
      const lip = Math.abs(y - 0.2502 + 2.2 * x * x) < 0.0078 * Math.sqrt(Math.max(0, 1 - (x / 0.0245) ** 2));
      if (z > 0.07 && lip) return { kind: "lips", push: 0 };
      if (look.beard && z > 0.0) {
        const under = y < 0.272 - 0.35 * Math.max(0, 0.045 - side) && y > 0.2 && side > 0.02;
        const chin = y < 0.243 && y > 0.195 && z > 0.03;
        const lipLine = y > 0.256 && y < 0.27 && side < 0.03 && z > 0.07;
        const here = {
          stubble: under || chin || lipLine,
          full: under || chin || lipLine || (y < 0.3 && side > 0.06 && z < 0.05),
          moustache: lipLine,
          goatee: (chin && side < 0.028) || (lipLine && side < 0.028),
        }[look.beard.kind];
        if (here) return { kind: "beard", push: look.beard.kind === "stubble" ? 0 : 0.003 };
      }
      return { kind: "skin", push: 0 };
    }
    default:
      return { kind: "skin", push: 0 };
  }
}

const grain = (x: number, y: number, z: number, f: number) => hash(Math.floor(x * f) + 131 * Math.floor(z * f), Math.floor(y * f));

export interface Dressed {
  /** Posed; pictures draw its vertices and faces with those of `mouth()`. */
  data: BodyModelData;
  /** The surface at a point of a face, given by its corners' weights; `place` gets the point of the template. */
  surfaceAt(face: number, w0: number, w1: number, w2: number, place: Float32Array): Surface;
}

/** Clothes lie over the skin, hair over the scalp: the template pushed outwards there, after features of its own. */
export function dress(look: Look): Dressed {
  const plain = mannequin();
  const { regions } = mannequinSurface();
  const v = plain.vTemplate;
  const f = plain.faces;
  const normals = vertexNormals(f, v);
  const vTemplate = v.slice();
  const { amplitude, phase } = look.features;
  for (let i = 0; i < v.length; i += 3) {
    const [x, y, z] = [v[i], v[i + 1], v[i + 2]];
    const { push } = coverAt(look, x, y, z, regions[i / 3]);
    // The eyeballs stay in their sockets.
    const eye = regions[i / 3] === "eye" || regions[i / 3].endsWith("Lid");
    const side = Math.abs(x);
    for (let k = 0; k < 3; k++) {
      const own = eye
        ? 0
        : amplitude *
          (Math.sin(34 * y + phase[k]) * Math.cos(27 * side + phase[k + 3]) +
            0.7 * Math.sin(57 * z + phase[k + 6]) * Math.cos(61 * y + phase[k + 9]));
      vTemplate[i + k] += push * normals[i + k] + (k === 0 ? Math.sign(x) * Math.min(1, side / 0.02) * own : own);
    }
  }
  const colourOf = (kind: Kind, x: number, y: number, z: number): Surface => {
    const { top } = look;
    switch (kind) {
      case "skin": {
        const spot = grain(x, y, z, 260) < 0.02 * look.blemish * 10 ? 1 - 0.5 * look.blemish : 1;
        // Redder cheeks, nose and fingertips; darker round the eyes.
        const red = 0.12 * Math.exp(-(((Math.abs(x) - 0.04) / 0.02) ** 2 + ((y - 0.29) / 0.02) ** 2)) + (Math.abs(x) > 0.8 ? 0.1 : 0);
        const dark = 0.25 * look.blemish * Math.exp(-(((Math.abs(x) - 0.032) / 0.02) ** 2 + ((y - 0.33) / 0.015) ** 2));
        const k = spot * (1 - dark);
        return { colour: [look.skin[0] * k, look.skin[1] * k * (1 - red), look.skin[2] * k * (1 - red)], gloss: look.shine, bump: 0 };
      }
      case "lips":
        return { colour: look.lips, gloss: look.shine + 0.1, bump: 0 };
      case "hair": {
        const strand = Math.sin(x * look.hair.frequency + 9 * Math.sin(z * 40 + y * 25)) * Math.sin(z * look.hair.frequency * 0.8 + y * 60);
        return { colour: scaled(look.hair.colour, 1 + 0.45 * strand), gloss: 0.25, bump: 0.35 };
      }
      case "beard": {
        const { density, colour, kind: beard } = look.beard!;
        return {
          colour: mixed(look.skin, colour, (beard === "stubble" ? 0.35 : 0.9) * density * (0.6 + 0.4 * grain(x, y, z, 500))),
          gloss: 0.05,
          bump: 0.2,
        };
      }
      case "brow":
        return { colour: mixed(look.skin, look.brow.colour, 0.85), gloss: 0, bump: 0 };
      case "white":
        return { colour: [0.62, 0.6, 0.58], gloss: 0.5, bump: 0 };
      case "iris":
        return { colour: look.iris, gloss: 0.8, bump: 0 };
      case "pupil":
        return { colour: [0.01, 0.01, 0.01], gloss: 0.8, bump: 0 };
      case "frame":
        return { colour: look.glasses!.colour, gloss: 0.5, bump: 0 };
      case "top":
        if (top.print && z > 0.02 && Math.abs(x) < 0.09 && Math.abs(y + 0.04) < 0.07)
          return { colour: patternAt(top.print, x, y), gloss: 0, bump: top.folds };
        return { colour: patternAt(top.pattern, x, y), gloss: 0.02, bump: top.folds };
      case "collar":
        return { colour: scaled(top.pattern.colour, 1.05), gloss: 0.02, bump: 0.1 };
      case "jacket":
        return { colour: patternAt(look.jacket!.pattern, x, y), gloss: 0.04, bump: top.folds };
      case "lapel":
        return { colour: look.jacket!.lapelColour, gloss: 0.05, bump: 0.05 };
      case "tie":
        return { colour: patternAt(look.tie!.pattern, x, y), gloss: 0.15, bump: 0.05 };
      case "button":
        return { colour: [0.5, 0.48, 0.44], gloss: 0.4, bump: 0 };
      case "teeth":
        return { colour: [0.5, 0.46, 0.38], gloss: 0.3, bump: 0 };
      case "inside":
        return { colour: [0.05, 0.012, 0.01], gloss: 0, bump: 0 };
    }
  };
  const within = mouth();
  return {
    data: { ...plain, vTemplate },
    surfaceAt(face, w0, w1, w2, place) {
      if (face >= within.firstFace) {
        place.set([0, 0.25, 0.08]);
        return colourOf(within.at(face, w0, w1, w2), 0, 0, 0);
      }
      const [a, b, c] = [3 * f[3 * face], 3 * f[3 * face + 1], 3 * f[3 * face + 2]];
      for (let k = 0; k < 3; k++) place[k] = w0 * v[a + k] + w1 * v[b + k] + w2 * v[c + k];
      return colourOf(coverAt(look, place[0], place[1], place[2], regions[a / 3]).kind, place[0], place[1], place[2]);
    },
  };
}
