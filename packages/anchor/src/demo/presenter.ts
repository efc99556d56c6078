/** The demo's presenter: the mannequin dressed by code, before a studio wall, behind a desk. */
import {
  mannequin,
  mannequinSurface,
  Poser,
  Rasteriser,
  type BodyModelData,
  type Camera,
  type Material,
  type Motion,
  type Region,
} from "@make-your-anchor/body";
import { blankImage, type RgbImage } from "@make-your-anchor/media";
import { mouth } from "../people/mouth.ts";

const cloth = (r: number, g: number, b: number): Material => ({ base: [r, g, b], metallic: 0, roughness: 0.85 });
/** Linear colours. */
const materials = {
  skin: { base: [0.5, 0.27, 0.18], metallic: 0, roughness: 0.6 } as Material,
  lips: { base: [0.4, 0.13, 0.11], metallic: 0, roughness: 0.5 } as Material,
  hair: { base: [0.055, 0.03, 0.02], metallic: 0, roughness: 0.7 } as Material,
  white: { base: [0.62, 0.62, 0.62], metallic: 0, roughness: 0.3 } as Material,
  iris: { base: [0.05, 0.12, 0.16], metallic: 0, roughness: 0.2 } as Material,
  jacket: cloth(0.035, 0.06, 0.13),
  lapel: cloth(0.022, 0.038, 0.085),
  shirt: cloth(0.6, 0.62, 0.66),
  tie: cloth(0.33, 0.025, 0.03),
  stripe: cloth(0.5, 0.33, 0.05),
  teeth: { base: [0.5, 0.46, 0.38], metallic: 0, roughness: 0.4 } as Material,
  inside: { base: [0.05, 0.012, 0.01], metallic: 0, roughness: 0.9 } as Material,
} as const;
const order = Object.keys(materials) as (keyof typeof materials)[];

type Kind = keyof typeof materials;

/** What covers a point of the undressed template, and how far it stands off the skin, metres. */
function coverAt(x: number, y: number, z: number, region: Region): { kind: Kind; push: number } {
  const side = Math.abs(x);
  const collar = y > 0.15 - 0.25 * z && y < 0.192 - 0.2 * z && side < 0.085;
  switch (region) {
    case "hand":
    case "body": {
      if (side > 0.66) return { kind: "skin", push: 0 };
      if (side > 0.64) return { kind: "shirt", push: 0.006 }; // cuffs
      if (collar) return { kind: "shirt", push: 0.008 };
      if (y > 0.155 && side < 0.07) return { kind: "skin", push: 0 };
      // Open front: a V of shirt with a tie, lapels beside it.
      const opening = z > 0.0 && y > -0.16 ? 0.01 + (y + 0.16) * 0.19 : -1;
      if (side < opening) {
        const tie = side < (y > 0.1 ? 0.013 : 0.009 + Math.min(0.012, (0.12 - y) * 0.1));
        return tie ? { kind: Math.sin(y * 170 + x * 120) > 0.75 ? "stripe" : "tie", push: 0.006 } : { kind: "shirt", push: 0.003 };
      }
      return { kind: opening > 0 && side < opening + 0.03 - Math.abs(y - 0.02) * 0.08 ? "lapel" : "jacket", push: 0.012 };
    }
    case "eye": {
      const d = Math.hypot(side - 0.032, y - 0.333);
      return { kind: z > 0.075 && d < 0.0056 ? (d < 0.0022 ? "hair" : "iris") : "white", push: 0 };
    }
    case "head":
    case "upperLip":
    case "lowerLip": {
      if (collar && y < 0.2) return { kind: "shirt", push: 0.008 };
      // A hairline over the brow, around the ears, down to the neck.
      const line = z > 0.035 ? 0.394 + 0.2 * side : z > -0.015 ? 0.33 + (z + 0.015) * 1.28 : 0.27;
      if (y > line && side < 0.0785) return { kind: "hair", push: 0.009 + 0.003 * Math.sin(x * 160) * Math.sin(z * 110) };
      if (z > 0.055 && Math.abs(y - 0.3555 + (side - 0.03) ** 2 * 6) < 0.0042 && side > 0.011 && side < 0.05)
        return { kind: "hair", push: 0.001 };
      const lip = Math.abs(y - 0.2502 + 2.2 * x * x) < 0.0078 * Math.sqrt(Math.max(0, 1 - (x / 0.0245) ** 2));
      return { kind: z > 0.07 && lip ? "lips" : "skin", push: 0 };
    }
    default:
      return { kind: "skin", push: 0 };
  }
}

/** Clothes lie over the skin, hair over the scalp: the template pushed outwards there. */
function dress(): { data: BodyModelData; materialAt: (face: number, w0: number, w1: number, w2: number) => number } {
  const plain = mannequin();
  const { regions } = mannequinSurface();
  const v = plain.vTemplate;
  const f = plain.faces;
  const normals = new Float32Array(v.length);
  for (let i = 0; i < f.length; i += 3) {
    const [a, b, c] = [3 * f[i], 3 * f[i + 1], 3 * f[i + 2]];
    const u = [0, 1, 2].map((k) => v[b + k] - v[a + k]);
    const w = [0, 1, 2].map((k) => v[c + k] - v[a + k]);
    const cross = [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]];
    for (const at of [a, b, c]) for (let k = 0; k < 3; k++) normals[at + k] += cross[k];
  }
  const vTemplate = v.slice();
  for (let i = 0; i < v.length; i += 3) {
    const { push } = coverAt(v[i], v[i + 1], v[i + 2], regions[i / 3]);
    const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    for (let k = 0; k < 3; k++) vTemplate[i + k] += (push * normals[i + k]) / length;
  }
  const index = Object.fromEntries(order.map((kind, i) => [kind, i])) as Record<Kind, number>;
  const within = mouth();
  const materialAt = (face: number, w0: number, w1: number, w2: number): number => {
    if (face >= within.firstFace) return index[within.at(face, w0, w1, w2)];
    const [a, b, c] = [f[3 * face], f[3 * face + 1], f[3 * face + 2]];
    const at = (k: number) => w0 * v[3 * a + k] + w1 * v[3 * b + k] + w2 * v[3 * c + k];
    return index[coverAt(at(0), at(1), at(2), regions[a]).kind];
  };
  return { data: { ...plain, vTemplate }, materialAt };
}

/** A wall with panels and soft light, a window and a plant's shadow: still, so that it must be learnt once. */
function studio(size: number): RgbImage {
  const image = blankImage(size, size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [u, v] = [x / size, y / size];
      const glow = Math.exp(-(((u - 0.24) / 0.35) ** 2 + ((v - 0.3) / 0.45) ** 2));
      let [r, g, b] = [64 + 70 * glow, 74 + 62 * glow, 88 + 44 * glow];
      // Panels.
      const panel = (u * 5) % 1;
      if (panel < 0.035) [r, g, b] = [r * 0.72, g * 0.72, b * 0.74];
      // A screen at the right with bars of colour.
      if (u > 0.74 && u < 0.95 && v > 0.16 && v < 0.46) {
        const bar = Math.floor((v - 0.16) / 0.05);
        [r, g, b] = bar % 2 ? [32, 92, 118] : [24, 62, 92];
        if (u < 0.755 || u > 0.935 || v < 0.175 || v > 0.445) [r, g, b] = [18, 20, 24];
        if (Math.abs(v - 0.31 - 0.05 * Math.sin(u * 40)) < 0.008) [r, g, b] = [214, 160, 58];
      }
      // A shelf with books at the left.
      if (u < 0.2 && v > 0.52 && v < 0.55) [r, g, b] = [92, 66, 42];
      if (u < 0.18 && v > 0.4 && v <= 0.52) {
        const book = Math.floor(u * 44);
        if ((book * 7) % 5 < 4 && v > 0.42 + ((book * 13) % 4) * 0.018)
          [r, g, b] = [70 + ((book * 53) % 110), 60 + ((book * 31) % 70), 50 + ((book * 71) % 90)];
      }
      image.data.set([r, g, b], (y * size + x) * 3);
    }
  }
  return image;
}

/** The desk's edge hides what is below it. */
function drawDesk(image: RgbImage): void {
  const top = Math.round(image.height * 0.9);
  for (let y = top; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      const edge = y - top < Math.max(1, image.height / 64);
      const grain = 6 * Math.sin(x * 0.11 + 3 * Math.sin(y * 0.4));
      image.data.set(edge ? [176, 136, 96] : [112 + grain, 78 + grain, 52 + grain], (y * image.width + x) * 3);
    }
  }
}

/** The camera that films the presenter, for pictures of `size` pixels. */
export const presenterCamera = (size: number): Camera => ({
  width: size,
  height: size,
  focal: (5000 * size) / 512,
  cx: size / 2,
  cy: size / 2,
  transl: [0, 0.735, 9.6],
});

/** Draws the presenter performing a motion. */
export class Presenter {
  private readonly camera: Camera;
  private readonly dressed = dress();
  private readonly poser: Poser;
  private readonly raster: Rasteriser;
  private readonly background: RgbImage;

  constructor(size: number) {
    this.camera = presenterCamera(size);
    this.poser = new Poser(this.dressed.data);
    this.raster = new Rasteriser(mouth().faces);
    this.background = studio(size);
  }
  frame(m: Motion, i: number): RgbImage {
    const { vertices } = this.poser.pose(m, i);
    const image = this.raster.render(mouth().withMouth(vertices), this.camera, {
      background: this.background.data,
      materials: order.map((k) => materials[k]),
      materialAt: this.dressed.materialAt,
    });
    drawDesk(image);
    return image;
  }
  dispose(): void {
    this.poser.dispose();
  }
}
