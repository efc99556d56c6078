/** What is behind a made-up person, and before them: rooms, studios, screens, streets out of focus. */
import { gaussianBlur, type RgbImage } from "@make-your-anchor/media";
import { hash, hsv, mixed, patternAt, randomCloth, scaled, type Colour } from "./colour.ts";
import type { Dice } from "./random.ts";

/** Draws over a picture of linear colours; `u`, `v` in 0..1. */
type Layer = (u: number, v: number, under: Colour) => Colour;

const anyColour = (d: Dice): Colour => hsv(d.range(0, 1), d.chance(0.4) ? d.range(0, 0.2) : d.range(0.1, 0.85), d.range(0.08, 0.98));
const inside = (u: number, v: number, b: readonly number[]) => u >= b[0] && u < b[2] && v >= b[1] && v < b[3];

function box(d: Dice, least = 0.08, most = 0.6): [number, number, number, number] {
  const [w, h] = [d.range(least, most), d.range(least, most)];
  const [x, y] = [d.range(-0.1, 1.05 - w / 2), d.range(-0.1, 1 - h / 2)];
  return [x, y, x + w, y + h];
}

function gradient(d: Dice): Layer {
  const [a, b, c] = [anyColour(d), anyColour(d), anyColour(d)];
  const near = d.chance(0.6) ? scaled(a, d.range(0.4, 1.8)) : b;
  const angle = d.range(0, 2 * Math.PI);
  const [gx, gy, gr] = [d.range(0, 1), d.range(0, 1), d.range(0.2, 0.8)];
  const glow = d.range(0, 0.5);
  return (u, v) => {
    const t = 0.5 + (u - 0.5) * Math.cos(angle) + (v - 0.5) * Math.sin(angle);
    return mixed(mixed(a, near, Math.max(0, Math.min(1, t))), c, glow * Math.exp(-(((u - gx) / gr) ** 2) - ((v - gy) / gr) ** 2));
  };
}

function panels(d: Dice): Layer {
  const [n, width, dark] = [d.range(3, 14), d.range(0.02, 0.2), d.range(0.5, 1.4)];
  const upright = d.chance(0.7);
  return (u, v, under) => (((((upright ? u : v) * n) % 1) + 1) % 1 < width ? scaled(under, dark) : under);
}

function curtain(d: Dice): Layer {
  const b = d.chance(0.5) ? [0, 0, 1, 1] : box(d, 0.3, 0.9);
  const [f, g, depth] = [d.range(20, 70), d.range(5, 20), d.range(0.2, 0.6)];
  const colour = anyColour(d);
  return (u, v, under) =>
    inside(u, v, b) ? scaled(colour, 1 - depth + depth * Math.sin(u * f + 2 * Math.sin(u * g) + 0.4 * Math.sin(v * 6))) : under;
}

function brick(d: Dice): Layer {
  const [a, mortar] = [anyColour(d), anyColour(d)];
  const [rows, ratio] = [d.range(8, 26), d.range(1.5, 3)];
  const key = d.below(1000);
  return (u, v) => {
    const r = Math.floor(v * rows);
    const x = (u * rows) / ratio + 0.5 * (r & 1);
    if ((v * rows) % 1 < 0.1 || ((x % 1) + 1) % 1 < 0.05) return mortar;
    return scaled(a, 0.75 + 0.5 * hash(Math.floor(x) + key, r));
  };
}

function frame(d: Dice): Layer {
  const b = box(d);
  const rim = d.range(0.004, 0.025);
  const rimColour = anyColour(d);
  const inner = d.chance(0.5) ? gradient(d) : undefined;
  const cloth = randomCloth(d, 0.3);
  const scale = d.range(0.1, 0.5);
  return (u, v, under) => {
    if (!inside(u, v, b)) return under;
    if (Math.min(u - b[0], b[2] - u, v - b[1], b[3] - v) < rim) return rimColour;
    return inner ? inner((u - b[0]) / (b[2] - b[0]), (v - b[1]) / (b[3] - b[1]), under) : patternAt(cloth, u * scale, v * scale);
  };
}

function shelf(d: Dice): Layer {
  const b = box(d, 0.2, 0.9);
  const rows = 1 + d.below(5);
  const wood = anyColour(d);
  const books = d.range(14, 60);
  const key = d.below(10000);
  const hue = d.range(0, 1);
  const spread = d.range(0.1, 1);
  return (u, v, under) => {
    if (!inside(u, v, b)) return under;
    const y = ((v - b[1]) / (b[3] - b[1])) * rows;
    const row = Math.floor(y);
    const i = Math.floor(u * books);
    if (y - row > 0.92) return wood;
    const height = 0.3 + 0.6 * hash(i + key, row);
    if (1 - (y - row) > height + 0.08 || hash(i + key, row + 9) < 0.12) return scaled(wood, 0.35);
    if (Math.abs(((u * books) % 1) - 0.5) > 0.46) return scaled(wood, 0.2);
    const spine = hsv((hue + spread * hash(i + key, row + 3)) % 1, hash(i, row + key) * 0.8, 0.2 + 0.7 * hash(i + 5, row + key));
    return hash(i, row + 77) > 0.5 && Math.abs(y - row - 0.65) < 0.05 ? scaled(spine, 1.8) : spine;
  };
}

function windowPane(d: Dice): Layer {
  const b = box(d, 0.2, 0.7);
  const [nx, ny] = [1 + d.below(4), 1 + d.below(3)];
  const rim = d.range(0.01, 0.04);
  const light = scaled(anyColour(d), 0.3);
  const sky: Colour = [light[0] + 0.6, light[1] + 0.65, light[2] + 0.7];
  const bar = anyColour(d);
  const horizon = d.range(0.3, 0.9);
  const trees = hsv(d.range(0.2, 0.4), 0.6, 0.4);
  const f = d.range(10, 40);
  return (u, v, under) => {
    if (!inside(u, v, b)) return under;
    const [x, y] = [((u - b[0]) / (b[2] - b[0])) * nx, ((v - b[1]) / (b[3] - b[1])) * ny];
    if (x % 1 < rim * nx || y % 1 < rim * ny) return bar;
    return y / ny > horizon + 0.06 * Math.sin(u * f) + 0.04 * Math.sin(u * f * 2.7) ? trees : sky;
  };
}

/** Leaves of every size over one another: edges and textures of all kinds, as photographs have them. */
function leaves(d: Dice, b: readonly number[], count: number): Layer {
  const all = Array.from({ length: count }, () => {
    const size = 0.012 * d.range(1, 2.5) ** d.range(0, 4);
    return {
      x: d.range(b[0], b[2]),
      y: d.range(b[1], b[3]),
      size,
      flat: d.range(0.3, 1),
      turn: d.range(0, Math.PI),
      square: d.chance(0.3),
      cloth: randomCloth(d, 0.6),
    };
  });
  return (u, v, under) => {
    if (!inside(u, v, b)) return under;
    for (const l of all) {
      const [c, s] = [Math.cos(l.turn), Math.sin(l.turn)];
      const [x, y] = [(c * (u - l.x) + s * (v - l.y)) / l.size, (c * (v - l.y) - s * (u - l.x)) / (l.size * l.flat)];
      if (l.square ? Math.abs(x) < 1 && Math.abs(y) < 1 : x * x + y * y < 1) return patternAt(l.cloth, u * 0.6, v * 0.6);
    }
    return under;
  };
}

function lights(d: Dice): Layer {
  const all = Array.from({ length: 4 + d.below(16) }, () => ({
    x: d.range(0, 1),
    y: d.range(0, 1),
    r: d.range(0.01, 0.07),
    colour: scaled(anyColour(d), d.range(0.5, 1.5)),
  }));
  return (u, v, under) => {
    let out = under;
    for (const l of all) {
      const r = Math.hypot(u - l.x, v - l.y) / l.r;
      if (r < 1) out = mixed(out, l.colour, 0.6);
      else if (r < 2) out = mixed(out, l.colour, 0.15 * (2 - r));
    }
    return out;
  };
}

/** Rows of dashes that look like writing, on a board or straight on the picture. */
function writing(d: Dice): Layer {
  const b = box(d, 0.15, 0.6);
  const board = d.chance(0.7) ? anyColour(d) : undefined;
  const ink = anyColour(d);
  const [rows, columns] = [3 + d.below(9), d.range(40, 140)];
  const key = d.below(1000);
  return (u, v, under) => {
    if (!inside(u, v, b)) return under;
    const y = ((v - b[1]) / (b[3] - b[1])) * rows;
    const i = Math.floor(u * columns);
    const word = hash(Math.floor(i / 5) + key, Math.floor(y)) > 0.25;
    if (word && y % 1 > 0.25 && y % 1 < 0.7 && hash(i + key, Math.floor(y * 6)) > 0.45) return ink;
    return board ?? under;
  };
}

const noisy = (d: Dice): Layer => {
  const [f, depth, key] = [d.range(30, 200), d.range(0.03, 0.25), d.below(1000)];
  return (u, v, under) => scaled(under, 1 + depth * (hash(Math.floor(u * f) + key, Math.floor(v * f)) - 0.5));
};

/** Pictures as wide as high; linear colours out of `toByte`'s curve are left to the caller. */
export function randomBackdrop(d: Dice, size: number, toByte: (linear: number) => number): RgbImage {
  const layers: Layer[] = [d.chance(0.12) ? brick(d) : gradient(d)];
  const makers = [
    panels,
    curtain,
    frame,
    frame,
    shelf,
    shelf,
    windowPane,
    lights,
    writing,
    writing,
    noisy,
    (x: Dice) => leaves(x, box(x, 0.2, 1), 20 + x.below(60)),
  ];
  for (let n = d.below(6); n > 0; n--) layers.push(d.pick(makers)(d));
  const planes = [0, 1, 2].map(() => new Float32Array(size * size));
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let c: Colour = [0, 0, 0];
      for (const layer of layers) c = layer((x + 0.5) / size, (y + 0.5) / size, c);
      for (let k = 0; k < 3; k++) planes[k][y * size + x] = Math.min(1, c[k]);
    }
  }
  const blur = d.chance(0.6) ? d.range(0, 0.02) ** 1.2 * size : 0;
  const done = blur > 0.4 ? planes.map((p) => gaussianBlur(p, { width: size, height: size }, 2 * Math.ceil(2.5 * blur) + 1, blur)) : planes;
  const data = new Uint8Array(size * size * 3);
  for (let i = 0; i < size * size; i++) for (let k = 0; k < 3; k++) data[3 * i + k] = toByte(done[k][i]);
  return { width: size, height: size, data };
}

/** Something before the person: a desk, a banner, a microphone; null where there is none. Alpha in the fourth byte. */
export function randomForeground(d: Dice, size: number, toByte: (linear: number) => number): Uint8Array | null {
  if (d.chance(0.45)) return null;
  const out = new Uint8Array(size * size * 4);
  const draw = (covers: (u: number, v: number) => boolean, colour: Layer) => {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const [u, v] = [(x + 0.5) / size, (y + 0.5) / size];
        if (!covers(u, v)) continue;
        const c = colour(u, v, [0, 0, 0]);
        out.set([toByte(c[0]), toByte(c[1]), toByte(c[2]), 255], 4 * (y * size + x));
      }
    }
  };
  if (d.chance(0.65)) {
    const [top, edge] = [d.range(0.82, 0.97), d.range(0.004, 0.02)];
    const wood = anyColour(d);
    const light = scaled(wood, d.range(0.6, 1.8));
    const f = d.range(5, 40);
    draw(
      (_, v) => v > top,
      (u, v) => (v < top + edge ? light : scaled(wood, 0.9 + 0.1 * Math.sin(u * f + 3 * Math.sin(v * 60)))),
    );
  }
  if (d.chance(0.3)) {
    const b = [d.range(0, 0.4), d.range(0.76, 0.92), d.range(0.5, 1), 1];
    const bar = writing(d);
    const colour = anyColour(d);
    b[3] = b[1] + d.range(0.04, 0.12);
    draw(
      (u, v) => inside(u, v, b),
      (u, v) => bar(u, v, colour),
    );
  }
  if (d.chance(0.15)) {
    const [x, y, r] = [d.range(0.35, 0.65), d.range(0.75, 0.95), d.range(0.015, 0.04)];
    const colour = scaled(anyColour(d), 0.4);
    draw(
      (u, v) => Math.hypot(u - x, (v - y) * 0.7) < r || (Math.abs(u - x) < r * 0.3 && v > y),
      (u, v) => scaled(colour, 1 + ((u * 120) % 1 < 0.5 !== (v * 120) % 1 < 0.5 ? 0.5 : 0)),
    );
  }
  return out;
}
