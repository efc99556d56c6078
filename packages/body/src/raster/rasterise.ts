/** A deterministic software renderer for body meshes: pinhole camera, four samples a pixel, smooth normals, culled back faces. */
import { shade, skyMaterial, toByte, type Material } from "./shading.ts";

export interface Camera {
  /** Pixels. */
  focal: number;
  /** Principal point, pixels. */
  cx: number;
  cy: number;
  /** Added to vertices: metres, x right, y down, z away from the camera. */
  transl: readonly [number, number, number];
  width: number;
  height: number;
}

/**
 * Linear colour `out` of a point of a face, given by its corners' weights `w`; `n` its unit normal, `v` the unit direction to the camera, `p` its
 * place; renderer's world (x right, y up, z towards the camera).
 */
export type Shader = (
  out: Float32Array,
  face: number,
  w0: number,
  w1: number,
  w2: number,
  nx: number,
  ny: number,
  nz: number,
  vx: number,
  vy: number,
  vz: number,
  px: number,
  py: number,
  pz: number,
) => void;

export interface RasterOptions {
  /** The materials in use; default the original's sky blue everywhere. */
  materials?: readonly Material[];
  /** Index into `materials` at a point of a face, given by its corners' weights; default 0. */
  materialAt?: (face: number, w0: number, w1: number, w2: number) => number;
  /** Gives a point's linear colour itself, instead of `materials`. */
  shader?: Shader;
  /** A picture to draw over; default black. `[height, width, 3]`, not changed. */
  background?: Uint8Array;
}

export interface Picture {
  width: number;
  height: number;
  /** `[height, width, 3]` */
  data: Uint8Array;
}

/** Sample places within a pixel: the rotated grid of common GPUs. */
const samples = [
  [0.375, 0.125],
  [0.875, 0.375],
  [0.125, 0.625],
  [0.625, 0.875],
] as const;

const near = 0.05;
/** Metres that a vertex may lie behind what is seen at its pixel and still be seen itself: surfaces slope. */
const behind = 0.03;

/** Vertices on the screen. */
interface Projected {
  /** Pixels. */
  x: Float32Array;
  y: Float32Array;
  /** 1/z, which unlike z is linear over the screen; 0 nearer than the near plane. */
  inverse: Float32Array;
}

/** Draws meshes that share faces; buffers are kept between frames. */
export class Rasteriser {
  private readonly faces: Uint32Array;
  /** Of every sample: 1/z of what is seen there, 0 for nothing, and the face it belongs to, −1 for none. */
  private depth = new Float32Array(0);
  private owner = new Int32Array(0);

  /** `faces` `[F, 3]`, counter-clockwise from outside. */
  constructor(faces: Uint32Array) {
    this.faces = faces;
  }

  /** `vertices` `[V, 3]` metres, x right, y down, z away (the body model's output with its fitted orientation). */
  render(vertices: Float32Array, camera: Camera, options: RasterOptions = {}): Picture {
    const { width, height } = camera;
    const projected = project(vertices, camera);
    this.findVisible(projected, width, height);
    const data = options.background ? options.background.slice() : new Uint8Array(width * height * 3);
    this.shadePixels(data, vertices, projected, camera, options);
    return { width, height, data };
  }

  /** Of the last picture: 1/z of the nearest that is seen at every pixel, 0 for nothing. `[height, width]` */
  nearest(): Float32Array {
    const { depth } = this;
    return Float32Array.from({ length: depth.length / 4 }, (_, p) =>
      Math.max(depth[4 * p], depth[4 * p + 1], depth[4 * p + 2], depth[4 * p + 3]),
    );
  }

  /**
   * How much is seen of every vertex: 0 of one that is behind others, outside the picture or turned away, else its share of the area around it as
   * the camera sees it, square pixels.
   */
  visible(vertices: Float32Array, camera: Camera): Float32Array {
    const { width, height } = camera;
    const projected = project(vertices, camera);
    this.findVisible(projected, width, height);
    const { depth, faces } = this;
    const { x, y, inverse } = projected;
    const out = new Float32Array(vertices.length / 3);
    for (let i = 0; i < faces.length; i += 3) {
      const [a, b, c] = [faces[i], faces[i + 1], faces[i + 2]];
      const area = (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]);
      if (area < 0) for (const v of [a, b, c]) out[v] -= area / 6;
      else for (const v of [a, b, c]) out[v] = Number.NEGATIVE_INFINITY; // at the edge of what is seen
    }
    for (let v = 0; v < out.length; v++) {
      const [i, j] = [Math.floor(x[v]), Math.floor(y[v])];
      if (!(out[v] > 0) || inverse[v] === 0 || i < 0 || j < 0 || i >= width || j >= height) {
        out[v] = 0;
        continue;
      }
      const at = (j * width + i) * 4;
      const nearest = Math.max(depth[at], depth[at + 1], depth[at + 2], depth[at + 3]);
      if (1 / inverse[v] - 1 / nearest > behind) out[v] = 0;
    }
    return out;
  }

  /** The nearest face at every sample. Runs for every sample of every face's box, so it only adds and multiplies. */
  private findVisible(projected: Projected, width: number, height: number): void {
    const size = width * height * 4;
    if (this.depth.length !== size) {
      this.depth = new Float32Array(size);
      this.owner = new Int32Array(size);
    }
    const { depth, owner, faces } = this;
    const { x: sx, y: sy, inverse } = projected;
    depth.fill(0);
    owner.fill(-1);
    // Weights and depth at the four samples, relative to the pixel's corner.
    const at0 = new Float64Array(4);
    const at1 = new Float64Array(4);
    const atZ = new Float64Array(4);
    for (let i = 0, face = 0; i < faces.length; i += 3, face++) {
      const a = faces[i];
      const b = faces[i + 1];
      const c = faces[i + 2];
      const z0 = inverse[a];
      const z1 = inverse[b];
      const z2 = inverse[c];
      if (z0 === 0 || z1 === 0 || z2 === 0) continue;
      const x0 = sx[a];
      const y0 = sy[a];
      const x1 = sx[b];
      const y1 = sy[b];
      const x2 = sx[c];
      const y2 = sy[c];
      // Counter-clockwise from outside comes out negative with y down.
      const area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0);
      if (area >= 0) continue;
      const left = Math.max(0, Math.floor(Math.min(x0, x1, x2)));
      const right = Math.min(width - 1, Math.floor(Math.max(x0, x1, x2)));
      const top = Math.max(0, Math.floor(Math.min(y0, y1, y2)));
      const bottom = Math.min(height - 1, Math.floor(Math.max(y0, y1, y2)));
      if (left > right || top > bottom) continue;
      // Weights of the first two corners and depth as planes over the screen: value = ax · x + ay · y + constant.
      const inv = 1 / area;
      const ax0 = (y1 - y2) * inv;
      const ay0 = (x2 - x1) * inv;
      const c0 = (x1 * y2 - y1 * x2) * inv;
      const ax1 = (y2 - y0) * inv;
      const ay1 = (x0 - x2) * inv;
      const c1 = (x2 * y0 - y2 * x0) * inv;
      const axZ = ax0 * (z0 - z2) + ax1 * (z1 - z2);
      const ayZ = ay0 * (z0 - z2) + ay1 * (z1 - z2);
      const cZ = c0 * (z0 - z2) + c1 * (z1 - z2) + z2;
      for (let s = 0; s < 4; s++) {
        const dx = samples[s][0];
        const dy = samples[s][1];
        at0[s] = ax0 * dx + ay0 * dy;
        at1[s] = ax1 * dx + ay1 * dy;
        atZ[s] = axZ * dx + ayZ * dy;
      }
      for (let y = top; y <= bottom; y++) {
        const row0 = ay0 * y + c0;
        const row1 = ay1 * y + c1;
        const rowZ = ayZ * y + cZ;
        let at = (y * width + left) * 4;
        for (let x = left; x <= right; x++, at += 4) {
          const p0 = row0 + ax0 * x;
          const p1 = row1 + ax1 * x;
          for (let s = 0; s < 4; s++) {
            const w0 = p0 + at0[s];
            const w1 = p1 + at1[s];
            if (w0 < 0 || w1 < 0 || w0 + w1 > 1) continue;
            const z = rowZ + axZ * x + atZ[s];
            if (z > depth[at + s]) {
              depth[at + s] = z;
              owner[at + s] = face;
            }
          }
        }
      }
    }
  }

  /** Colours every pixel some face is seen in: each face once a pixel, weighed by its samples. */
  private shadePixels(out: Uint8Array, vertices: Float32Array, projected: Projected, camera: Camera, options: RasterOptions): void {
    const { owner, faces: f } = this;
    const { x: sx, y: sy, inverse } = projected;
    const { width, height } = camera;
    const [tx, ty, tz] = camera.transl;
    const normals = vertexNormals(f, vertices);
    const materials = options.materials ?? [skyMaterial];
    const { materialAt, shader } = options;
    const colour = new Float32Array(3);
    for (let p = 0, o = 0; p < width * height; p++, o += 4) {
      if (owner[o] < 0 && owner[o + 1] < 0 && owner[o + 2] < 0 && owner[o + 3] < 0) continue;
      // At the pixel's centre, kept on the face where the centre lies outside it.
      const px = (p % width) + 0.5;
      const py = Math.floor(p / width) + 0.5;
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let s = 0; s < 4; s++) {
        const face = owner[o + s];
        if (face < 0) {
          red += out[p * 3];
          green += out[p * 3 + 1];
          blue += out[p * 3 + 2];
          continue;
        }
        let earlier = 0;
        while (earlier < s && owner[o + earlier] !== face) earlier++;
        if (earlier < s) continue; // shaded with its first sample
        let count = 1;
        for (let r = s + 1; r < 4; r++) if (owner[o + r] === face) count++;
        const a = f[3 * face];
        const b = f[3 * face + 1];
        const c = f[3 * face + 2];
        const x0 = sx[a] - px;
        const y0 = sy[a] - py;
        const x1 = sx[b] - px;
        const y1 = sy[b] - py;
        const x2 = sx[c] - px;
        const y2 = sy[c] - py;
        // Areas opposite the corners, positive inside; over the depth they become weights in space.
        let w0 = Math.max(0, y1 * x2 - x1 * y2) * inverse[a];
        let w1 = Math.max(0, y2 * x0 - x2 * y0) * inverse[b];
        let w2 = Math.max(0, y0 * x1 - x0 * y1) * inverse[c];
        const total = w0 + w1 + w2;
        w0 /= total;
        w1 /= total;
        w2 /= total;
        const i = 3 * a;
        const j = 3 * b;
        const k = 3 * c;
        // To the renderer's world: y up, z towards the camera, the mesh where the model put it.
        const wx = w0 * vertices[i] + w1 * vertices[j] + w2 * vertices[k];
        const wy = -(w0 * vertices[i + 1] + w1 * vertices[j + 1] + w2 * vertices[k + 1]);
        const wz = -(w0 * vertices[i + 2] + w1 * vertices[j + 2] + w2 * vertices[k + 2]);
        const nx = w0 * normals[i] + w1 * normals[j] + w2 * normals[k];
        const ny = -(w0 * normals[i + 1] + w1 * normals[j + 1] + w2 * normals[k + 1]);
        const nz = -(w0 * normals[i + 2] + w1 * normals[j + 2] + w2 * normals[k + 2]);
        const nn = Math.sqrt(nx * nx + ny * ny + nz * nz) || 1;
        const vx = -tx - wx;
        const vy = ty - wy;
        const vz = tz - wz;
        const vn = Math.sqrt(vx * vx + vy * vy + vz * vz) || 1;
        if (shader) shader(colour, face, w0, w1, w2, nx / nn, ny / nn, nz / nn, vx / vn, vy / vn, vz / vn, wx, wy, wz);
        else {
          const material = materials[materialAt ? materialAt(face, w0, w1, w2) : 0];
          shade(colour, material, nx / nn, ny / nn, nz / nn, vx / vn, vy / vn, vz / vn, wx, wy, wz);
        }
        red += count * toByte(colour[0]);
        green += count * toByte(colour[1]);
        blue += count * toByte(colour[2]);
      }
      out[p * 3] = Math.round(red / 4);
      out[p * 3 + 1] = Math.round(green / 4);
      out[p * 3 + 2] = Math.round(blue / 4);
    }
  }
}

function project(vertices: Float32Array, camera: Camera): Projected {
  const { focal, cx, cy } = camera;
  const [tx, ty, tz] = camera.transl;
  const n = vertices.length / 3;
  const x = new Float32Array(n);
  const y = new Float32Array(n);
  const inverse = new Float32Array(n);
  for (let v = 0; v < n; v++) {
    const z = vertices[3 * v + 2] + tz;
    if (z < near) continue;
    inverse[v] = 1 / z;
    x[v] = cx + (focal * (vertices[3 * v] + tx)) / z;
    y[v] = cy + (focal * (vertices[3 * v + 1] + ty)) / z;
  }
  return { x, y, inverse };
}

/** Area-weighted unit normals of vertices `[V, 3]`, `[V, 3]`. */
export function vertexNormals(f: Uint32Array, v: Float32Array): Float32Array {
  const out = new Float32Array(v.length);
  for (let i = 0; i < f.length; i += 3) {
    const a = 3 * f[i];
    const b = 3 * f[i + 1];
    const c = 3 * f[i + 2];
    const ux = v[b] - v[a];
    const uy = v[b + 1] - v[a + 1];
    const uz = v[b + 2] - v[a + 2];
    const wx = v[c] - v[a];
    const wy = v[c + 1] - v[a + 1];
    const wz = v[c + 2] - v[a + 2];
    const nx = uy * wz - uz * wy;
    const ny = uz * wx - ux * wz;
    const nz = ux * wy - uy * wx;
    for (let corner = 0; corner < 3; corner++) {
      const at = 3 * f[i + corner];
      out[at] += nx;
      out[at + 1] += ny;
      out[at + 2] += nz;
    }
  }
  for (let i = 0; i < out.length; i += 3) {
    const n = Math.sqrt(out[i] * out[i] + out[i + 1] * out[i + 1] + out[i + 2] * out[i + 2]) || 1;
    out[i] /= n;
    out[i + 1] /= n;
    out[i + 2] /= n;
  }
  return out;
}
