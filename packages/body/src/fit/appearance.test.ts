import { describe, expect, it } from "vitest";
import { Generator, scope } from "@make-your-anchor/torch";
import { landmarksOf } from "../../../../test/landmarks.ts";
import { settledTensors } from "../../../../test/live-tensors.ts";
import { mannequin } from "../mannequin/mannequin.ts";
import { emptyMotion, type Motion } from "../motion/motion.ts";
import { Poser } from "../motion/poser.ts";
import { jointIndex } from "../model/skeleton.ts";
import { Rasteriser } from "../raster/rasterise.ts";
import type { FitPictures } from "./appearance.ts";
import { fitMotion } from "./fit.ts";
import { fitReport } from "./report.ts";
import { modelPoints, type FrameLandmarks } from "./landmarks.ts";

const data = mannequin();
const frames = 8;
const size = 128;
const camera = { width: size, height: size, focal: 5000 / 4, cx: size / 2, cy: size / 2, transl: [0, 0.7, 9.5] as const };

/** A speaker who leans from side to side. */
function leaning(): Motion {
  const m = emptyMotion(frames, 10, 10, 10);
  for (let f = 0; f < frames; f++) {
    m.globalOrient[3 * f] = Math.PI;
    const set = (joint: string, v: number[]) => m.bodyPose.set(v, f * 63 + (jointIndex(joint) - 1) * 3);
    set("spine2", [0, 0.25 * Math.sin(f), 0.08 * Math.cos(f)]);
    set("left_shoulder", [0.1, -0.35, -1.05]);
    set("right_shoulder", [0.1, 0.35, 1.05]);
    set("left_elbow", [0, -1.3, 0]);
    set("right_elbow", [0, 1.3, 0]);
  }
  return m;
}

describe("pictures", () => {
  it("bring the body to where its places are seen, though its points are off", async () => {
    const motion = leaning();
    using poser = new Poser(data);
    const raster = new Rasteriser(data.faces);
    // A coat of patches, each vertex in a colour of its own.
    const coat = Float32Array.from(
      { length: data.vTemplate.length },
      (_, i) =>
        0.5 +
        0.4 * Math.sin(40 * data.vTemplate[3 * Math.floor(i / 3)] + (i % 3)) * Math.cos(40 * data.vTemplate[3 * Math.floor(i / 3) + 1]),
    );
    const pictures: FitPictures = { size, frames: [], planes: [] };
    const truth: Float32Array[] = [];
    for (let f = 0; f < frames; f++) {
      const { vertices } = poser.pose(motion, f);
      truth.push(vertices);
      const { data: rgb } = raster.render(vertices, camera, {
        shader: (out, face, ...w) => {
          for (let c = 0; c < 3; c++) out[c] = [0, 1, 2].reduce((s, k) => s + w[k] * coat[3 * data.faces[3 * face + k] + c], 0);
        },
      });
      pictures.frames.push(f);
      pictures.planes.push(Uint8Array.from(rgb, (_, i) => rgb[3 * (i % (size * size)) + Math.floor(i / (size * size))]));
    }
    using g = new Generator(5);
    const noise = scope(() => g.randn([frames * modelPoints.length * 2]).floats());
    const seen: FrameLandmarks[] = truth.map((_, f) => {
      const { joints } = poser.pose(motion, f);
      return landmarksOf((p, i) => {
        const [x, y, z] = [0, 1, 2].map((k) => joints[3 * p.joint + k] + camera.transl[k]);
        const off = p.group === "body" ? 6 : 0.5; // as detectors are
        const n = 2 * (f * modelPoints.length + i);
        return { x: 256 + (5000 * x) / z + off * noise[n], y: 256 + (5000 * y) / z + off * noise[n + 1], score: 1 };
      });
    });
    /** How far the trunk's front lies from the truth, pixels at 512², on average. */
    const miss = (fitted: Motion): number => {
      let [sum, count] = [0, 0];
      for (let f = 0; f < frames; f++) {
        const { vertices } = poser.pose(fitted, f);
        const shown = raster.visible(truth[f], camera);
        for (let v = 0; v < shown.length; v++) {
          if (shown[v] === 0 || data.vTemplate[3 * v + 1] > 0.1 || Math.abs(data.vTemplate[3 * v]) > 0.15) continue;
          const at = (p: Float32Array, t: readonly number[]) => [0, 1].map((k) => (5000 * (p[3 * v + k] + t[k])) / (p[3 * v + 2] + t[2]));
          const [a, b] = [at(vertices, fitted.camera!.transl), at(truth[f], camera.transl)];
          sum += Math.hypot(a[0] - b[0], a[1] - b[1]);
          count++;
        }
      }
      return sum / count;
    };
    const o = { width: 512, height: 512, fps: 10 };
    const before = await settledTensors();
    const byPoints = await fitMotion(data, seen, o);
    const byPictures = await fitMotion(data, seen, { ...o, pictures });
    expect(await settledTensors()).toEqual(before);
    const [crude, fine] = [miss(byPoints), miss(byPictures)];
    expect(fine).toBeLessThan(0.8 * crude);
    const face = (m: Motion) => fitReport(data, m, seen).face.median;
    expect(face(byPictures)).toBeLessThan(face(byPoints) + 1);
  });
});

describe("visible vertices", () => {
  it("are those in front, by the area around them; what is hidden, turned away or outside is not seen", () => {
    const right = (x: number, y: number, side: number, z: number) => [x, y, z, x, y + side, z, x + side, y + side, z];
    // A large one, a smaller one before it, one behind it, one that looks the other way, one outside.
    const triangles = [
      right(-1, -1, 2, 10),
      right(-0.6, 0.2, 0.4, 8),
      right(-0.7, -0.1, 0.4, 12),
      right(0.4, -0.9, 0.4, 8),
      right(5, 0, 1, 10),
    ];
    const turned = 3;
    const faces = Uint32Array.from(
      triangles.flatMap((_, t) => (t === turned ? [3 * t, 3 * t + 2, 3 * t + 1] : [3 * t, 3 * t + 1, 3 * t + 2])),
    );
    const view = { width: 64, height: 64, focal: 300, cx: 32, cy: 32, transl: [0, 0, 0] as const };
    const seen = new Rasteriser(faces).visible(Float32Array.from(triangles.flat()), view);
    expect(seen[0]).toBeCloseTo(60 ** 2 / 6, 2);
    expect(seen[3]).toBeCloseTo(15 ** 2 / 6, 2);
    for (const t of [2, turned, 4]) expect([...seen.subarray(3 * t, 3 * t + 3)]).toEqual([0, 0, 0]);
  });
});
