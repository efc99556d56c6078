import { describe, expect, it } from "vitest";
import { applyAffine } from "@make-your-anchor/media";
import {
  alignFace,
  chooseFace,
  faceOutline,
  FaceTrack,
  fivePoints,
  innerFromFive,
  insideOutline,
  maskOfLabels,
  outlineMask,
  ScrfdDetector,
  similarity,
  templates,
  type FaceLandmarks,
  type FaceSight,
  type XY,
} from "./index.ts";

/** 51 landmarks of a face looking at the camera, `size` pixels from eye to eye, its middle at (x, y). */
function face(x: number, y: number, size = 40): XY[] {
  const at = (u: number, v: number): XY => ({ x: x + u * size, y: y + v * size });
  const arc = (n: number, u: number, v: number, ru: number, rv: number) =>
    Array.from({ length: n }, (_, i) => at(u - ru * Math.cos((Math.PI * 2 * i) / n), v - rv * Math.sin((Math.PI * 2 * i) / n)));
  return [
    ...Array.from({ length: 5 }, (_, i) => at(-0.85 + i * 0.16, -0.3)),
    ...Array.from({ length: 5 }, (_, i) => at(0.2 + i * 0.16, -0.3)),
    ...Array.from({ length: 4 }, (_, i) => at(0, i * 0.18)), // the nose's bridge, to its tip
    ...Array.from({ length: 5 }, (_, i) => at(-0.2 + i * 0.1, 0.66)),
    ...arc(6, -0.5, 0, 0.2, 0.08),
    ...arc(6, 0.5, 0, 0.2, 0.08),
    ...arc(12, 0, 1.05, 0.4, 0.15),
    ...arc(8, 0, 1.05, 0.3, 0.06),
  ];
}

describe("alignment", () => {
  it("finds the turn, scale and shift that made the points", () => {
    const [template] = templates("ffhq", 512);
    const [angle, scale] = [0.3, 0.25];
    const [a, b] = [scale * Math.cos(angle), scale * Math.sin(angle)];
    const points = template.map(([x, y]): [number, number] => [a * x - b * y + 33, b * x + a * y - 7]);
    const { matrix } = alignFace(points, 512)!;
    for (const [i, p] of points.entries()) {
      const [x, y] = applyAffine(matrix, ...p);
      expect(x).toBeCloseTo(template[i][0], 8);
      expect(y).toBeCloseTo(template[i][1], 8);
    }
    expect(matrix[0]).toBeCloseTo(matrix[4], 12);
    expect(matrix[1]).toBeCloseTo(-matrix[3], 12);
  });
  it("does not mirror, and gives nothing for points that coincide", () => {
    const [template] = templates("ffhq", 512);
    const mirrored = template.map(([x, y]): [number, number] => [-x, y]);
    const m = similarity(mirrored, template)!;
    expect(m[0] * m[4] - m[1] * m[3]).toBeGreaterThan(0);
    expect(
      alignFace(
        Array.from({ length: 5 }, () => [3, 3] as const),
        256,
      ),
    ).toBeNull();
    expect(
      alignFace(
        Array.from({ length: 5 }, () => [Number.NaN, 3] as const),
        256,
      ),
    ).toBeNull();
  });
  it("of ArcFace's views takes the frontal one for a frontal face", () => {
    expect(alignFace(fivePoints(face(100, 100)), 112, "arcface")!.template).toBe(2);
  });
});

describe("masks from landmarks", () => {
  it("hold every landmark, reach beyond brows and lips, and are black inside", () => {
    const inner = face(128, 110);
    const outline = faceOutline(inner);
    const mask = outlineMask(outline, { width: 256, height: 256 });
    for (const p of inner) expect(mask[Math.round(p.y) * 256 + Math.round(p.x)]).toBe(0);
    expect(insideOutline(outline, { x: 128, y: 110 - 0.45 * 40 })).toBe(true); // forehead
    expect(insideOutline(outline, { x: 128, y: 110 + 1.35 * 40 })).toBe(true); // chin
    expect(insideOutline(outline, { x: 20, y: 20 })).toBe(false);
    expect(mask[20 * 256 + 20]).toBe(255);
    for (let i = 0; i < mask.length; i += 37) {
      const inside = insideOutline(outline, { x: i % 256, y: Math.floor(i / 256) });
      if (inside) expect(mask[i]).toBe(0);
    }
  });
  it("of a label map keep hair, neck and clothes", () => {
    const labels = new Uint8Array(25).fill(17);
    labels[12] = 1;
    expect([...maskOfLabels(labels, { width: 5, height: 5 })].filter((v) => v === 0)).toHaveLength(9);
  });
});

describe("a face through time", () => {
  const track = (sights: FaceSight[], options = {}) => new FaceTrack((i) => sights[i], sights.length, { size: 64, ...options });
  const found = (x: number): FaceSight => ({ state: "found", inner: face(x, 60) });
  const missing: FaceSight = { state: "missing", inner: null };

  it("bridges a short gap between its ends, and passes a long one through", async () => {
    const sights = Array.from({ length: 40 }, (_, i) => (i === 5 || i === 6 || (i > 20 && i < 32) ? missing : found(50 + i)));
    const t = track(sights, { smooth: 0 });
    const states: string[] = [];
    for (let i = 0; i < 40; i++) {
      const f = await t.at(i);
      states.push(f.state);
      if (i === 5) expect(f.inner![0].x).toBeCloseTo(face(55, 60)[0].x, 6);
      expect(f.painted).toBe(f.state === "found" || f.state === "bridged");
      expect(f.matrix === null).toBe(f.state === "missing");
    }
    expect(states.slice(4, 8)).toEqual(["found", "bridged", "bridged", "found"]);
    expect(new Set(states.slice(21, 32))).toEqual(new Set(["missing"]));
  });
  it("is missing at the ends of a video, where there is nothing to bridge to", async () => {
    const t = track([missing, missing, found(50), found(51), missing]);
    expect((await t.at(0)).state).toBe("missing");
    expect((await t.at(4)).state).toBe("missing");
  });
  it("smooths the crop's movement", async () => {
    const jitter = Array.from({ length: 30 }, (_, i) => found(60 + (i % 2 === 0 ? 1 : -1)));
    const moved = async (smooth: number) => {
      const t = track(jitter, { smooth });
      let sum = 0;
      let last: number | undefined;
      for (let i = 5; i < 25; i++) {
        const [, , tx] = (await t.at(i)).matrix!;
        if (last !== undefined) sum += Math.abs(tx - last);
        last = tx;
      }
      return sum;
    };
    expect(await moved(1.5)).toBeLessThan(0.05 * (await moved(0)));
  });
  it("passes a face through that is turned, covered or outside, and fades beside it", async () => {
    for (const state of ["turned", "covered", "outside"] as const) {
      const sights = Array.from({ length: 20 }, (_, i): FaceSight => (i >= 10 ? { state, inner: face(60, 60) } : found(60)));
      const t = track(sights);
      const strengths: number[] = [];
      for (let i = 0; i < 20; i++) {
        const f = await t.at(i);
        strengths.push(f.strength);
        expect(f.state).toBe(i < 10 ? "found" : state);
        expect(f.painted).toBe(i < 10);
      }
      expect(strengths[0]).toBeCloseTo(1, 10);
      expect(strengths[9]).toBeLessThan(0.8);
      expect(strengths[9]).toBeGreaterThan(0.3);
      expect(strengths[10]).toBe(0);
    }
  });
  it("looks at each frame once, in order, a bounded way ahead", async () => {
    const looked: number[] = [];
    const t = new FaceTrack(
      (i) => {
        looked.push(i);
        return found(60);
      },
      200,
      { size: 64 },
    );
    for (let i = 0; i < 100; i++) await t.at(i);
    expect(looked).toEqual(looked.toSorted((a, b) => a - b));
    expect(new Set(looked).size).toBe(looked.length);
    expect(looked.length).toBeLessThan(112);
  });
});

describe("SCRFD as a detector", () => {
  const side = 64;
  const cells = (stride: number) => (side / stride) ** 2 * 2;
  const names = ["s8", "s16", "s32", "b8", "b16", "b32", "p8", "p16", "p32"];
  const outputs = () =>
    Object.fromEntries(
      names.map((name) => {
        const stride = Number(name.slice(1));
        const width = { s: 1, b: 4, p: 10 }[name[0]]!;
        return [name, { data: new Float32Array(cells(stride) * width), dims: [cells(stride), width] }];
      }),
    );
  const frame = { width: 128, height: 128, data: new Uint8Array(128 * 128 * 3).fill(90) };

  it("gives the network its canvas, and reads faces from its outputs in their order", async () => {
    const made = outputs();
    // At stride 16, column 2, row 1, second anchor: one stride around it, points at its cell's corner and around.
    const at = (1 * (side / 16) + 2) * 2 + 1;
    (made.s16.data as Float32Array)[at] = 0.9;
    (made.b16.data as Float32Array).set([1, 1, 1, 1], 4 * at);
    (made.p16.data as Float32Array).set([-0.5, -0.5, 0.5, -0.5, 0, 0, -0.5, 0.5, 0.5, 0.5], 10 * at);
    let seen: unknown;
    const session = {
      inputNames: ["input.1"],
      outputNames: names,
      run: async (feeds: Record<string, unknown>) => {
        seen = feeds["input.1"];
        return made;
      },
    };
    const detector = new ScrfdDetector(session, (data, dims) => ({ data, dims }));
    const faces = await detector.detect(frame, { side });
    const { data, dims } = seen as { data: Float32Array; dims: number[] };
    expect(dims).toEqual([1, 3, side, side]);
    expect(data[0]).toBeCloseTo((90 - 127.5) / 128, 5);
    // The frame is twice the canvas.
    expect(faces).toHaveLength(1);
    expect(faces[0].box).toEqual([32, 0, 96, 64]);
    expect(faces[0].points[0]).toEqual([48, 16]);
  });
  it("refuses another network, and says what the file needs", async () => {
    const session = { inputNames: ["x"], outputNames: ["a"], run: async () => ({ a: { data: new Float32Array(3), dims: [3] } }) };
    await expect(new ScrfdDetector(session, (data) => data).detect(frame, { side })).rejects.toThrow(
      /has 1 outputs, SCRFD with landmarks has 9/,
    );
    await expect(ScrfdDetector.open("/nowhere/scrfd.onnx")).rejects.toThrow(/onnxruntime-node|cannot be opened as an ONNX network/);
  });
  it("five points are enough for a mask: the others come from a face at hand", () => {
    const [here, there] = [face(100, 100), face(30, 40, 20)];
    const inner = innerFromFive(fivePoints(there), here)!;
    inner.forEach((p, i) => {
      expect(p.x).toBeCloseTo(there[i].x, 6);
      expect(p.y).toBeCloseTo(there[i].y, 6);
    });
  });
});

describe("two faces in view", () => {
  const seen = (x: number, size: number, descriptor?: number[]): FaceLandmarks => ({
    score: 0.9,
    box: [x - size / 2, 100 - size / 2, size, size],
    inner: [],
    descriptor: descriptor && Float32Array.from(descriptor),
  });
  it("the larger is followed first, then the one where it was, even when the other grows", () => {
    const first = chooseFace([seen(100, 50), seen(400, 80)], undefined)!;
    expect(first.box[2]).toBe(80);
    const next = chooseFace([seen(100, 120), seen(410, 78)], { x: 400, y: 100, size: 80 })!;
    expect(next.box[2]).toBe(78);
  });
  it("identity decides where both are near, and at the start", () => {
    const me = [1, 0, 0.1];
    expect(chooseFace([seen(100, 90, [0, 1, 0]), seen(300, 60, me)], undefined, me)!.box[2]).toBe(60);
    const near = chooseFace([seen(210, 80, [0, 1, 0]), seen(225, 80, me)], { x: 205, y: 100, size: 80 }, me)!;
    expect(near.descriptor![0]).toBe(1);
  });
  it("another's face far away is left alone when the own is gone", () => {
    expect(chooseFace([seen(500, 80)], { x: 100, y: 100, size: 80 })).toBeUndefined();
  });
});
