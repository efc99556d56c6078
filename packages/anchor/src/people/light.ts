/** The light a made-up person stands in. */
import type { Shader } from "@make-your-anchor/body";
import { mixed, scaled, type Colour } from "./colour.ts";
import type { Dressed } from "./dress.ts";
import type { Dice } from "./random.ts";

type Vec3 = readonly [number, number, number];

export interface Light {
  sky: Colour;
  ground: Colour;
  lamps: readonly { towards: Vec3; colour: Colour; wrap: number }[];
  /** From behind, along the outline. */
  rim: Colour;
}

const tint = (d: Dice, strength: number): Colour => [1 + d.range(-strength, strength), 1, 1 + d.range(-strength, strength)];
const unit = (x: number, y: number, z: number): Vec3 => {
  const n = Math.hypot(x, y, z);
  return [x / n, y / n, z / n];
};

export function randomLight(d: Dice): Light {
  const level = d.range(0.75, 1.3);
  const hard = d.range(0.3, 1.5);
  const sky = scaled(tint(d, 0.15), level * d.range(0.25, 0.6));
  const lamp = (side: number, share: number) => ({
    towards: unit(side * d.range(0.2, 1.2), d.range(0.1, 1.2), d.range(0.5, 1.4)),
    colour: scaled(tint(d, 0.2), level * hard * share),
    wrap: d.range(0, 0.5),
  });
  const side = d.chance(0.5) ? 1 : -1;
  return {
    sky,
    ground: scaled(mixed(sky, tint(d, 0.3), 0.3), d.range(0.3, 0.8)),
    lamps: [lamp(side, 0.75), ...(d.chance(0.6) ? [lamp(-side, d.range(0.1, 0.5))] : [])],
    rim: d.chance(0.35) ? scaled(tint(d, 0.3), d.range(0.1, 0.5)) : [0, 0, 0],
  };
}

/** Colours points of a dressed person in a light. */
export function personShader(dressed: Dressed, light: Light, foldFrequency: number, folds: readonly number[]): Shader {
  const place = new Float32Array(3);
  const lamps = light.lamps.map((l) => ({ ...l }));
  return (out, face, w0, w1, w2, nx0, ny0, nz0, vx, vy, vz) => {
    const { colour, gloss, bump } = dressed.surfaceAt(face, w0, w1, w2, place);
    let [nx, ny, nz] = [nx0, ny0, nz0];
    if (bump > 0) {
      const [x, y, z] = [place[0] * foldFrequency, place[1] * foldFrequency, place[2] * foldFrequency];
      const bend = Math.sin(0.7 * x + 1.3 * y + folds[0] + 1.5 * Math.sin(0.4 * y - 0.6 * x + folds[1]));
      nx += bump * bend * Math.cos(0.9 * y + 0.5 * z + folds[2]);
      ny += bump * 0.7 * Math.sin(1.1 * x - 0.8 * y + folds[3] + bend);
      const n = Math.sqrt(nx * nx + ny * ny + nz * nz) || 1;
      nx /= n;
      ny /= n;
      nz /= n;
    }
    const up = 0.5 + 0.5 * ny;
    const facing = Math.max(0, nx * vx + ny * vy + nz * vz);
    const edge = (1 - facing) ** 3;
    for (let c = 0; c < 3; c++) out[c] = colour[c] * (light.ground[c] + (light.sky[c] - light.ground[c]) * up) + light.rim[c] * edge;
    for (const { towards, colour: lamp, wrap } of lamps) {
      const cos = nx * towards[0] + ny * towards[1] + nz * towards[2];
      const lit = Math.max(0, cos + wrap) / (1 + wrap);
      if (lit <= 0) continue;
      let shine = 0;
      if (gloss > 0) {
        const [hx, hy, hz] = [towards[0] + vx, towards[1] + vy, towards[2] + vz];
        const h = Math.max(0, (nx * hx + ny * hy + nz * hz) / Math.sqrt(hx * hx + hy * hy + hz * hz));
        shine = gloss * 0.5 * h ** 24;
      }
      for (let c = 0; c < 3; c++) out[c] += lamp[c] * lit * (colour[c] + shine);
    }
  };
}
