/**
 * The original's light on the mesh: metallic-roughness shading as its renderer (pyrender) computes it. Source: spec of the original,
 * section 3; there five lights end up at one place by an accident of its code, and are kept there.
 */

export interface Material {
  /** Linear base colour 0..1. */
  base: readonly [number, number, number];
  metallic: number;
  roughness: number;
}

/** "sky", the colour of the original's condition frames. */
export const skyMaterial: Material = { base: [0.3, 0.5, 0.55], metallic: 0.2, roughness: 0.6 };

/** Where every light is: world of the renderer (x right, y up, z towards the camera), metres. */
export const lightPosition = [-1, 2, 2] as const;
const ambient = 0.3;

const steps = 8192;
/** 8-bit values of linear light: clamped, to the power 1/2.2, rounded as the framebuffer does, then cut as its reading does. */
const gamma = new Uint8Array(steps + 1);
for (let i = 0; i <= steps; i++) {
  const byte = Math.round(Math.min(1, (i / steps) ** (1 / 2.2)) * 255);
  gamma[i] = Math.fround(Math.fround(byte / 255) * 255);
}
export const toByte = (linear: number): number => gamma[linear >= 1 ? steps : linear <= 0 ? 0 : Math.round(linear * steps)];

/**
 * Linear colour of a point. `n` unit normal, `v` unit direction to the camera, `p` the point; renderer's world.
 * Three point lights of colour 0.2 and intensity 1, two spots of intensity 15 looking along −z (full inside 60°, none beyond 90°).
 */
export function shade(
  out: Float32Array,
  m: Material,
  nx: number,
  ny: number,
  nz: number,
  vx: number,
  vy: number,
  vz: number,
  px: number,
  py: number,
  pz: number,
): void {
  let lx = lightPosition[0] - px;
  let ly = lightPosition[1] - py;
  let lz = lightPosition[2] - pz;
  const d2 = lx * lx + ly * ly + lz * lz;
  const d = Math.sqrt(d2);
  lx /= d;
  ly /= d;
  lz /= d;
  let hx = lx + vx;
  let hy = ly + vy;
  let hz = lz + vz;
  const hn = Math.sqrt(hx * hx + hy * hy + hz * hz) || 1;
  hx /= hn;
  hy /= hn;
  hz /= hn;
  const nl = Math.min(1, Math.max(0.001, nx * lx + ny * ly + nz * lz));
  const nv = Math.min(1, Math.max(0.001, Math.abs(nx * vx + ny * vy + nz * vz)));
  const nh = Math.min(1, Math.max(0, nx * hx + ny * hy + nz * hz));
  const vh = Math.min(1, Math.max(0, vx * hx + vy * hy + vz * hz));
  // cos(inner) − cos(outer) = 0.5 − 0, offset 0: t = cos · 2, clamped.
  const t = Math.min(1, Math.max(0, lz * 2));
  const radiance = (3 * 0.2 + 2 * 15 * t * t) / d2;
  const r2 = m.roughness * m.roughness;
  const a2 = r2 * r2;
  const k = ((m.roughness + 1) * (m.roughness + 1)) / 8;
  const g = (nv / (nv * (1 - k) + k)) * (nl / (nl * (1 - k) + k));
  const dd = nh * nh * (a2 - 1) + 1;
  const distribution = a2 / (Math.PI * dd * dd);
  const specular = (g * distribution) / (4 * nl * nv + 0.001);
  const away = (1 - vh) * (1 - vh);
  const fresnel = away * away * (1 - vh);
  for (let c = 0; c < 3; c++) {
    const base = m.base[c];
    const f0 = 0.04 + (base - 0.04) * m.metallic;
    const f = f0 + (1 - f0) * fresnel;
    const diffuse = (base * 0.96 * (1 - m.metallic)) / Math.PI;
    out[c] = base * ambient + nl * radiance * ((1 - f) * diffuse + f * specular);
  }
}
