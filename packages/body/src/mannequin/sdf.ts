/** Signed distances (metres, negative inside) of the solids the mannequin is built of. */

export type Vec3 = readonly [number, number, number];
export type Field = (x: number, y: number, z: number) => number;

export const ellipsoid = ([cx, cy, cz]: Vec3, [a, b, c]: Vec3): Field => {
  return (x, y, z) => {
    const [px, py, pz] = [(x - cx) / a, (y - cy) / b, (z - cz) / c];
    const k0 = Math.sqrt(px * px + py * py + pz * pz);
    const k1 = Math.sqrt((px / a) ** 2 + (py / b) ** 2 + (pz / c) ** 2);
    return k0 < 1e-9 ? -Math.min(a, b, c) : (k0 * (k0 - 1)) / k1;
  };
};

/** A cone with round ends: radius ra at a, rb at b. */
export const roundCone = (a: Vec3, b: Vec3, ra: number, rb: number): Field => {
  const [bx, by, bz] = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
  const length2 = bx * bx + by * by + bz * bz;
  return (x, y, z) => {
    const [px, py, pz] = [x - a[0], y - a[1], z - a[2]];
    const t = Math.min(1, Math.max(0, (px * bx + py * by + pz * bz) / length2));
    return Math.sqrt((px - t * bx) ** 2 + (py - t * by) ** 2 + (pz - t * bz) ** 2) - (ra + t * (rb - ra));
  };
};

export const ball =
  ([cx, cy, cz]: Vec3, r: number): Field =>
  (x, y, z) =>
    Math.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - r;

/** Union with a fillet about `k` wide. */
export const smoothMin = (a: number, b: number, k: number): number => {
  const h = Math.max(k - Math.abs(a - b), 0) / k;
  return Math.min(a, b) - h * h * k * 0.25;
};
export const blend =
  (k: number, ...fields: Field[]): Field =>
  (x, y, z) => {
    let d = fields[0](x, y, z);
    for (let i = 1; i < fields.length; i++) d = smoothMin(d, fields[i](x, y, z), k);
    return d;
  };
export const union =
  (...fields: Field[]): Field =>
  (x, y, z) => {
    let d = Number.POSITIVE_INFINITY;
    for (const f of fields) d = Math.min(d, f(x, y, z));
    return d;
  };
/** `a` without `b`, the edge rounded. */
export const carve =
  (k: number, a: Field, b: Field): Field =>
  (x, y, z) =>
    -smoothMin(-a(x, y, z), b(x, y, z), k);

export const mirrorVec = ([x, y, z]: Vec3): Vec3 => [-x, y, z];
/** The same solid on the other side of the body. */
export const mirror =
  (f: Field): Field =>
  (x, y, z) =>
    f(-x, y, z);
/** Both sides, apart from each other. */
export const pair =
  (f: Field): Field =>
  (x, y, z) =>
    Math.min(f(x, y, z), f(-x, y, z));
