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

export interface RasterOptions {
  /** The materials in use; default the original's sky blue everywhere. */
  materials?: readonly Material[];
  /** Index into `materials` at a point of a face, given by its corners' weights; default 0. */
  materialAt?: (face: number, w0: number, w1: number, w2: number) => number;
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

/** Draws meshes that share faces; buffers are kept between frames. */
export class Rasteriser {
  private readonly faces: Uint32Array;
  private depth = new Float32Array(0);
  private owner = new Int32Array(0);

  /** `faces` `[F, 3]`, counter-clockwise from outside. */
  constructor(faces: Uint32Array) {
    this.faces = faces;
  }

  /** Area-weighted unit normals of vertices `[V, 3]`, `[V, 3]`. */
  private normals(v: Float32Array): Float32Array {
    const out = new Float32Array(v.length);
    const f = this.faces;
    for (let i = 0; i < f.length; i += 3) {
      const [a, b, c] = [3 * f[i], 3 * f[i + 1], 3 * f[i + 2]];
      const [ux, uy, uz] = [v[b] - v[a], v[b + 1] - v[a + 1], v[b + 2] - v[a + 2]];
      const [wx, wy, wz] = [v[c] - v[a], v[c + 1] - v[a + 1], v[c + 2] - v[a + 2]];
      const [nx, ny, nz] = [uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx];
      for (const at of [a, b, c]) {
        out[at] += nx;
        out[at + 1] += ny;
        out[at + 2] += nz;
      }
    }
    for (let i = 0; i < out.length; i += 3) {
      const n = Math.sqrt(out[i] ** 2 + out[i + 1] ** 2 + out[i + 2] ** 2) || 1;
      out[i] /= n;
      out[i + 1] /= n;
      out[i + 2] /= n;
    }
    return out;
  }

  /** `vertices` `[V, 3]` metres, x right, y down, z away (the body model's output with its fitted orientation). */
  render(vertices: Float32Array, camera: Camera, options: RasterOptions = {}): Picture {
    const { width, height, focal, cx, cy } = camera;
    const [tx, ty, tz] = camera.transl;
    const n = vertices.length / 3;
    const f = this.faces;
    const pixels = width * height;
    if (this.depth.length !== pixels * 4) {
      this.depth = new Float32Array(pixels * 4);
      this.owner = new Int32Array(pixels * 4);
    }
    const { depth, owner } = this;
    depth.fill(Number.POSITIVE_INFINITY);
    owner.fill(-1);

    const sx = new Float32Array(n);
    const sy = new Float32Array(n);
    const inverse = new Float32Array(n); // 1/z: linear over the screen
    for (let v = 0; v < n; v++) {
      const z = vertices[3 * v + 2] + tz;
      inverse[v] = 1 / z;
      sx[v] = cx + (focal * (vertices[3 * v] + tx)) / z;
      sy[v] = cy + (focal * (vertices[3 * v + 1] + ty)) / z;
    }

    for (let i = 0, face = 0; i < f.length; i += 3, face++) {
      const [a, b, c] = [f[i], f[i + 1], f[i + 2]];
      if (vertices[3 * a + 2] + tz < near || vertices[3 * b + 2] + tz < near || vertices[3 * c + 2] + tz < near) continue;
      const [x0, y0, x1, y1, x2, y2] = [sx[a], sy[a], sx[b], sy[b], sx[c], sy[c]];
      // Counter-clockwise from outside comes out negative with y down.
      const area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0);
      if (area >= 0) continue;
      const left = Math.max(0, Math.floor(Math.min(x0, x1, x2)));
      const right = Math.min(width - 1, Math.floor(Math.max(x0, x1, x2)));
      const top = Math.max(0, Math.floor(Math.min(y0, y1, y2)));
      const bottom = Math.min(height - 1, Math.floor(Math.max(y0, y1, y2)));
      const inv = 1 / area;
      const [z0, z1, z2] = [inverse[a], inverse[b], inverse[c]];
      for (let y = top; y <= bottom; y++) {
        for (let x = left; x <= right; x++) {
          for (let s = 0; s < 4; s++) {
            const [px, py] = [x + samples[s][0], y + samples[s][1]];
            const w0 = ((x1 - px) * (y2 - py) - (y1 - py) * (x2 - px)) * inv;
            if (w0 < 0) continue;
            const w1 = ((x2 - px) * (y0 - py) - (y2 - py) * (x0 - px)) * inv;
            if (w1 < 0) continue;
            const w2 = 1 - w0 - w1;
            if (w2 < 0) continue;
            const z = 1 / (w0 * z0 + w1 * z1 + w2 * z2);
            const at = (y * width + x) * 4 + s;
            if (z < depth[at]) {
              depth[at] = z;
              owner[at] = face;
            }
          }
        }
      }
    }

    const normals = this.normals(vertices);
    const out = options.background ? options.background.slice() : new Uint8Array(pixels * 3);
    const colour = new Float32Array(3);
    const materials = options.materials ?? [skyMaterial];
    const sum = [0, 0, 0];
    for (let p = 0; p < pixels; p++) {
      const o = p * 4;
      if (owner[o] < 0 && owner[o + 1] < 0 && owner[o + 2] < 0 && owner[o + 3] < 0) continue;
      sum[0] = sum[1] = sum[2] = 0;
      for (let s = 0; s < 4; s++) {
        const face = owner[o + s];
        if (face < 0) {
          for (let k = 0; k < 3; k++) sum[k] += out[p * 3 + k];
          continue;
        }
        let earlier = 0;
        while (earlier < s && owner[o + earlier] !== face) earlier++;
        if (earlier < s) continue; // shaded with its first sample
        let count = 0;
        for (let r = s; r < 4; r++) if (owner[o + r] === face) count++;
        const [a, b, c] = [f[3 * face], f[3 * face + 1], f[3 * face + 2]];
        const [x0, y0, x1, y1, x2, y2] = [sx[a], sy[a], sx[b], sy[b], sx[c], sy[c]];
        const inv = 1 / ((x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0));
        // At the pixel's centre, kept on the face where the centre lies outside it.
        const [px, py] = [(p % width) + 0.5, Math.floor(p / width) + 0.5];
        let w0 = Math.max(0, ((x1 - px) * (y2 - py) - (y1 - py) * (x2 - px)) * inv);
        let w1 = Math.max(0, ((x2 - px) * (y0 - py) - (y2 - py) * (x0 - px)) * inv);
        let w2 = Math.max(0, ((x0 - px) * (y1 - py) - (y0 - py) * (x1 - px)) * inv);
        w0 *= inverse[a];
        w1 *= inverse[b];
        w2 *= inverse[c];
        const total = w0 + w1 + w2;
        w0 /= total;
        w1 /= total;
        w2 /= total;
        const at = (array: Float32Array, k: number) => w0 * array[3 * a + k] + w1 * array[3 * b + k] + w2 * array[3 * c + k];
        // To the renderer's world: y up, z towards the camera, the mesh where the model put it.
        const [wx, wy, wz] = [at(vertices, 0), -at(vertices, 1), -at(vertices, 2)];
        let [nx, ny, nz] = [at(normals, 0), -at(normals, 1), -at(normals, 2)];
        const nn = Math.sqrt(nx * nx + ny * ny + nz * nz) || 1;
        nx /= nn;
        ny /= nn;
        nz /= nn;
        let [vx, vy, vz] = [-tx - wx, ty - wy, tz - wz];
        const vn = Math.sqrt(vx * vx + vy * vy + vz * vz) || 1;
        vx /= vn;
        vy /= vn;
        vz /= vn;
        shade(colour, materials[options.materialAt ? options.materialAt(face, w0, w1, w2) : 0], nx, ny, nz, vx, vy, vz, wx, wy, wz);
        for (let k = 0; k < 3; k++) sum[k] += count * toByte(colour[k]);
      }
      for (let k = 0; k < 3; k++) out[p * 3 + k] = Math.round(sum[k] / 4);
    }
    return { width, height, data: out };
  }
}
