/** Surface of a field inside a box: naive surface nets, vertices then moved onto the surface along the gradient. */
import type { Field, Vec3 } from "./sdf.ts";

export interface Mesh {
  /** `[V, 3]` */
  positions: number[];
  /** `[F, 3]`, counter-clockwise from outside. */
  faces: number[];
}

export function gradient(f: Field, x: number, y: number, z: number, h = 5e-4): [number, number, number] {
  return [f(x + h, y, z) - f(x - h, y, z), f(x, y + h, z) - f(x, y - h, z), f(x, y, z + h) - f(x, y, z - h)].map((d) => d / (2 * h)) as [
    number,
    number,
    number,
  ];
}

/** `step` is the cells' size in metres. Where the surface leaves the box the mesh stays open. */
export function surfaceNets(f: Field, min: Vec3, max: Vec3, step: number): Mesh {
  const n = [0, 1, 2].map((k) => Math.ceil((max[k] - min[k]) / step) + 1);
  const [nx, ny, nz] = n;
  const at = (i: number, j: number, k: number) => (k * ny + j) * nx + i;
  const values = new Float32Array(nx * ny * nz);
  for (let k = 0; k < nz; k++) {
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx;) {
        const v = f(min[0] + i * step, min[1] + j * step, min[2] + k * step);
        values[at(i, j, k)] = v;
        // Far from the surface the sign cannot change before |v|: fill and skip. Ellipsoids' distances are rough: half of it.
        const skip = Math.min(nx - i, Math.max(1, Math.floor((Math.abs(v) * 0.45) / step)));
        for (let s = 1; s < skip; s++) values[at(i + s, j, k)] = v;
        i += skip;
      }
    }
  }
  const positions: number[] = [];
  const faces: number[] = [];
  const vertexOf = new Int32Array(nx * ny * nz).fill(-1);
  const corners = [0, 1].flatMap((k) => [0, 1].flatMap((j) => [0, 1].map((i) => [i, j, k] as const)));
  const edges = corners.flatMap((a, p) =>
    corners.flatMap((b, q) =>
      q > p && Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]) + Math.abs(a[2] - b[2]) === 1 ? [[p, q] as const] : [],
    ),
  );
  for (let k = 0; k + 1 < nz; k++) {
    for (let j = 0; j + 1 < ny; j++) {
      for (let i = 0; i + 1 < nx; i++) {
        const v = corners.map(([a, b, c]) => values[at(i + a, j + b, k + c)]);
        const inside = v.filter((x) => x < 0).length;
        if (inside === 0 || inside === 8) continue;
        const p = [0, 0, 0];
        let count = 0;
        for (const [a, b] of edges) {
          if (v[a] < 0 === v[b] < 0) continue;
          const t = v[a] / (v[a] - v[b]);
          for (let c = 0; c < 3; c++) p[c] += corners[a][c] + t * (corners[b][c] - corners[a][c]);
          count++;
        }
        const x: [number, number, number] = [
          min[0] + (i + p[0] / count) * step,
          min[1] + (j + p[1] / count) * step,
          min[2] + (k + p[2] / count) * step,
        ];
        for (let pass = 0; pass < 2; pass++) {
          const d = f(...x);
          const g = gradient(f, ...x);
          const s = Math.max(-step, Math.min(step, d)) / Math.max(0.2, g[0] ** 2 + g[1] ** 2 + g[2] ** 2);
          for (let c = 0; c < 3; c++) x[c] -= s * g[c];
        }
        vertexOf[at(i, j, k)] = positions.length / 3;
        positions.push(...x);
      }
    }
  }
  // A face across each grid edge the surface crosses: the four cells around it.
  const axes = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ] as const;
  for (let k = 0; k + 1 < nz; k++) {
    for (let j = 0; j + 1 < ny; j++) {
      for (let i = 0; i + 1 < nx; i++) {
        const here = values[at(i, j, k)];
        axes.forEach(([a, b, c], axis) => {
          const there = values[at(i + a, j + b, k + c)];
          if (here < 0 === there < 0) return;
          const [u, w] = [axes[(axis + 1) % 3], axes[(axis + 2) % 3]];
          if (i < u[0] + w[0] || j < u[1] + w[1] || k < u[2] + w[2]) return;
          const q = [
            [0, 0],
            [1, 0],
            [1, 1],
            [0, 1],
          ].map(([s, t]) => vertexOf[at(i - s * u[0] - t * w[0], j - s * u[1] - t * w[1], k - s * u[2] - t * w[2])]);
          if (q.some((x) => x < 0)) return;
          const [p0, p1, p2, p3] = here < 0 ? q : [q[0], q[3], q[2], q[1]];
          faces.push(p0, p1, p2, p0, p2, p3);
        });
      }
    }
  }
  return { positions, faces };
}
