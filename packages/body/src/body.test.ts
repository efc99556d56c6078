import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { zipSync } from "fflate";
import { fromData, Generator, noGrad, scope } from "@make-your-anchor/torch";
import {
  BodyModel,
  checkMotion,
  emptyMotion,
  expressionNames,
  fitMotion,
  fitReport,
  jointCount,
  jointIndex,
  loadMotion,
  mannequin,
  npyBytes,
  Poser,
  Rasteriser,
  readNpz,
  resampleMotion,
  saveMotion,
  shapeNames,
  sliceMotion,
  surfaceColours,
  surfaceShader,
  toByte,
  toTalkshow,
  writeNpz,
  type FrameLandmarks,
  type Motion,
} from "./index.ts";
import { jointPositions } from "./mannequin/anatomy.ts";
import { modelPoints } from "./fit/landmarks.ts";
import { landmarksOf } from "../../../test/landmarks.ts";
import { settledTensors } from "../../../test/live-tensors.ts";

const folder = mkdtempSync(join(tmpdir(), "body-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);

describe("mannequin", () => {
  const data = mannequin();
  const vertices = data.vTemplate.length / 3;

  it("has the layout's sizes and a usable surface", () => {
    expect(vertices).toBeGreaterThan(5000);
    expect(vertices).toBeLessThanOrEqual(20000);
    expect(data.weights.length).toBe(vertices * jointCount);
    for (let v = 0; v < vertices; v++) {
      let sum = 0;
      for (let j = 0; j < jointCount; j++) sum += data.weights[v * jointCount + j];
      expect(Math.abs(sum - 1)).toBeLessThan(1e-4);
    }
    expect(data.faces.every((i) => i < vertices)).toBe(true);
    expect(data.shapeCount).toBe(shapeNames.length);
    expect(data.expressionCount).toBe(expressionNames.length);
    // Human proportions: 1.75 m tall, arms as wide as tall.
    const ys = data.vTemplate.filter((_, i) => i % 3 === 1);
    const xs = data.vTemplate.filter((_, i) => i % 3 === 0);
    const extent = (a: Float32Array) => a.reduce((m, x) => Math.max(m, x), -9) - a.reduce((m, x) => Math.min(m, x), 9);
    expect(extent(ys)).toBeGreaterThan(1.7);
    expect(extent(ys)).toBeLessThan(1.8);
    expect(Math.abs(extent(xs) / extent(ys) - 1)).toBeLessThan(0.08);
  });

  it("its regressor finds the joints, of the template and of other shapes", () =>
    scope(() =>
      noGrad(() => {
        const model = new BodyModel(data, { flatHandMean: true });
        const zero = (n: number) => fromData(new Float32Array(n), [1, n]);
        const rest = {
          expression: zero(10),
          globalOrient: zero(3),
          bodyPose: zero(63),
          jawPose: zero(3),
          leyePose: zero(3),
          reyePose: zero(3),
          leftHandPose: zero(45),
          rightHandPose: zero(45),
        };
        const joints = model.forward({ ...rest, betas: zero(10) }).joints.floats();
        jointPositions.forEach((p, j) => p.forEach((x, k) => expect(Math.abs(joints[3 * j + k] - x), `joint ${j}`).toBeLessThan(2e-3)));
        // Longer arms move the wrist outwards and nothing else.
        const longer = model
          .forward({
            ...rest,
            betas: fromData(
              Float32Array.from({ length: 10 }, (_, i) => (i === 3 ? 2 : 0)),
              [1, 10],
            ),
          })
          .joints.floats();
        const wrist = jointIndex("left_wrist");
        expect(longer[3 * wrist] - joints[3 * wrist]).toBeGreaterThan(0.05);
        expect(Math.abs(longer[3 * 15 + 1] - joints[3 * 15 + 1])).toBeLessThan(1e-3);
        model.dispose();
      }),
    ));

  it("opens its jaw, closes its lids and bends its fingers", () => {
    using poser = new Poser(data);
    const m = emptyMotion(4, 30, 10, 10);
    m.jawPose[3] = 0.3; // frame 1
    m.expression[2 * 10] = 1; // frame 2: left eye closed
    m.leftHandPose[3 * 45 + 2] = -0.7; // frame 3: left index bent at its root
    const joints = [0, 1, 2, 3].map((f) => poser.pose(m, f).joints);
    const y = (f: number, j: number) => joints[f][3 * j + 1];
    const lower = 76 + 40; // lower lip, outer
    const upper = 76 + 34;
    expect(y(0, lower) - y(1, lower)).toBeGreaterThan(0.01);
    expect(Math.abs(y(0, upper) - y(1, upper))).toBeLessThan(0.003);
    const [leftLid, rightLid] = [76 + 27, 76 + 20];
    expect(y(0, leftLid) - y(2, leftLid)).toBeGreaterThan(0.004);
    expect(Math.abs(y(0, rightLid) - y(2, rightLid))).toBeLessThan(1e-4);
    const tip = 67;
    expect(y(0, tip) - y(3, tip)).toBeGreaterThan(0.02);
  });

  it("frees what it makes", async () => {
    const before = await settledTensors();
    const poser = new Poser(data);
    poser.pose(emptyMotion(1, 30, 10, 10), 0);
    poser.dispose();
    expect(await settledTensors()).toEqual(before);
  });
});

describe("rasteriser", () => {
  const camera = { focal: 100, cx: 8, cy: 8, transl: [0, 0, 10] as const, width: 16, height: 16 };
  // A square facing the camera (which looks along +z), counter-clockwise as seen from it with y down.
  const square = new Float32Array([-0.5, -0.5, 0, -0.5, 0.5, 0, 0.5, 0.5, 0, 0.5, -0.5, 0]);
  const towards = new Uint32Array([0, 1, 2, 0, 2, 3]);

  it("draws what faces the camera, culls what does not, and is deterministic", () => {
    const drawn = new Rasteriser(towards).render(square, camera);
    expect(drawn.data[(8 * 16 + 8) * 3]).toBeGreaterThan(80);
    expect(drawn.data[0]).toBe(0);
    expect(new Rasteriser(towards).render(square, camera).data).toEqual(drawn.data);
    const away = new Rasteriser(new Uint32Array([0, 2, 1, 0, 3, 2])).render(square, camera);
    expect(away.data.every((x) => x === 0)).toBe(true);
  });
  it("smooths edges with four samples a pixel", () => {
    const shifted = square.map((x, i) => (i % 3 === 0 ? x + 0.05 : x)); // half a pixel to the right
    const { data } = new Rasteriser(towards).render(shifted, camera);
    const [outside, edge, inside] = [2, 3, 8].map((x) => data[(8 * 16 + x) * 3]);
    expect(outside).toBe(0);
    expect(edge).toBeGreaterThan(inside * 0.3);
    expect(edge).toBeLessThan(inside * 0.7);
  });
  it("nearer faces hide farther ones, whatever the order", () => {
    const two = new Float32Array([...square, ...square.map((x, i) => (i % 3 === 2 ? x - 1 : x * 0.5))]);
    const faces = [...towards, ...towards.map((i) => i + 4)];
    const materials = [
      { base: [1, 0, 0], metallic: 0, roughness: 1 },
      { base: [0, 1, 0], metallic: 0, roughness: 1 },
    ] as const;
    for (const order of [faces, [...faces.slice(6), ...faces.slice(0, 6)]]) {
      const first = order[0] === 0;
      const { data } = new Rasteriser(new Uint32Array(order)).render(two, camera, {
        materials: materials as never,
        materialAt: (f) => (f < 2 === first ? 0 : 1),
      });
      const center = (8 * 16 + 8) * 3;
      expect(data[center + 1]).toBeGreaterThan(data[center]);
    }
  });
  it("keeps a background where nothing is drawn", () => {
    const background = new Uint8Array(16 * 16 * 3).fill(50);
    expect(new Rasteriser(towards).render(square, camera, { background }).data[0]).toBe(50);
    expect(background.every((x) => x === 50)).toBe(true);
  });
  it("surface colours tell head, hands and trunk apart, and places on them", () => {
    const data = mannequin();
    const colours = surfaceColours(data);
    expect(colours.every((c) => c >= 0.09 && c <= 1.001)).toBe(true);
    const at = (joint: string) => {
      // The vertex that most belongs to a joint.
      const j = jointIndex(joint as never);
      let best = 0;
      for (let v = 1; v * 3 < colours.length; v++) if (data.weights[v * jointCount + j] > data.weights[best * jointCount + j]) best = v;
      return Array.from(colours.subarray(3 * best, 3 * best + 3));
    };
    const [chest, head, left, right, leftTip] = ["spine3", "head", "left_wrist", "right_wrist", "left_middle3"].map(at);
    const apart = (a: number[], b: number[]) => Math.max(...a.map((x, c) => Math.abs(x - b[c])));
    for (const [a, b] of [
      [chest, head],
      [chest, left],
      [chest, right],
      [head, left],
      [left, right],
      [left, leftTip],
    ])
      expect(apart(a, b)).toBeGreaterThan(0.1);

    const motion = emptyMotion(1, 25);
    motion.globalOrient.set([Math.PI, 0, 0]);
    using poser = new Poser(data);
    const { vertices } = poser.pose(motion, 0);
    const view = { width: 64, height: 64, focal: 1000, cx: 32, cy: 32, transl: [0, 0.4, 25] as const };
    const raster = new Rasteriser(data.faces);
    const drawn = raster.render(vertices, view, { shader: surfaceShader(data) });
    expect(raster.render(vertices, view, { shader: surfaceShader(data) }).data).toEqual(drawn.data);
    const plain = raster.render(vertices, view).data;
    let seen = 0;
    for (let p = 0; p < plain.length; p += 3) {
      const lit = (d: Uint8Array) => d[p] + d[p + 1] + d[p + 2] > 0;
      expect(lit(drawn.data)).toBe(lit(plain));
      if (lit(plain)) seen++;
    }
    expect(seen).toBeGreaterThan(100);
  });
  it("the original's ambient light on its sky blue is (85, 108, 112)", () => {
    expect([0.3, 0.5, 0.55].map((x) => toByte(x * 0.3))).toEqual([85, 108, 112]);
  });
});

describe("motion files", () => {
  const random = (frames: number): Motion => {
    const m = emptyMotion(frames, 30, 10, 10);
    const fill = (a: Float32Array) => a.forEach((_, i) => (a[i] = Math.sin(i * 12.9898) * 0.5));
    for (const f of [
      "transl",
      "globalOrient",
      "bodyPose",
      "jawPose",
      "leyePose",
      "reyePose",
      "leftHandPose",
      "rightHandPose",
      "expression",
      "betas",
    ] as const)
      fill(m[f]);
    m.camera = { width: 512, height: 512, focal: 5000, cx: 256, cy: 256, transl: [0.1, 0.2, 9] };
    return m;
  };
  it("survive a round trip; the same motion gives the same bytes", () => {
    const m = random(7);
    saveMotion(file("a.npz"), m);
    saveMotion(file("b.npz"), m);
    expect(readFileSync(file("a.npz"))).toEqual(readFileSync(file("b.npz")));
    expect(loadMotion(file("a.npz"))).toEqual(m);
  });
  it("keep how the camera moved, cut and resampled with the rest", () => {
    const m = random(5);
    m.views = Float32Array.from({ length: 30 }, (_, i) => Math.floor(i / 6) + (i % 6) / 8);
    saveMotion(file("views.npz"), m);
    expect(loadMotion(file("views.npz"))).toEqual(m);
    expect(sliceMotion(m, 1, 3).views).toEqual(m.views.slice(6, 18));
    expect([...resampleMotion(m, 60).views!.slice(6, 12)]).toEqual([0, 1, 2, 3, 4, 5].map((k) => 0.5 + k / 8));
    expect(resampleMotion(random(5), 60).views).toBeUndefined();
    m.views = m.views.slice(6);
    expect(() => checkMotion(m, "m")).toThrow(/views holds 24 values, 5 frames of 6 need 30/);
    m.views = new Float32Array(30).fill(Number.NaN);
    expect(() => checkMotion(m, "m")).toThrow(/views of frame 0 .* is NaN/);
  });
  it("TalkSHOW's columns", () => {
    const m = { ...random(4), space: "smplx" as const };
    writeFileSync(file("t.npy"), npyBytes(toTalkshow(m)));
    const back = loadMotion(file("t.npy"));
    for (const f of ["globalOrient", "bodyPose", "jawPose", "leyePose", "reyePose", "leftHandPose", "rightHandPose"] as const)
      expect(back[f], f).toEqual(m[f]);
    expect(back.fps).toBe(30);
    expect(back.expression.slice(0, 10)).toEqual(m.expression.slice(0, 10));
  });
  it("AMASS: 165 angles, z up turned to the camera's frame", () => {
    const poses = new Float32Array(2 * 165);
    poses[0] = poses[165] = Math.PI / 2; // upright in a world with z up
    poses[3] = 0.25;
    writeNpz(
      file("amass.npz"),
      new Map<string, Parameters<typeof npyBytes>[0]>([
        ["poses", { shape: [2, 165], data: poses }],
        ["trans", { shape: [2, 3], data: new Float32Array([0, 0, 1, 0, 0, 1]) }],
        ["mocap_frame_rate", { shape: [1], data: new Float64Array([120]) }],
      ]),
    );
    const m = loadMotion(file("amass.npz"));
    expect(m.fps).toBe(120);
    expect(m.bodyPose[0]).toBeCloseTo(0.25, 6);
    expect(m.handsAboutMean).toBe(false);
    expect(Math.abs(m.globalOrient[0])).toBeCloseTo(Math.PI, 4); // upright in the camera's frame
    expect(m.transl[1]).toBeCloseTo(-1, 5); // up is −y
  });
  const bad: [string, () => string, RegExp][] = [
    [
      "a wrong width",
      () => (writeFileSync(file("w.npy"), npyBytes({ shape: [3, 264], data: new Float32Array(3 * 264) })), file("w.npy")),
      /expected an array \[frames, 265\] \(TalkSHOW\), got \[3, 264\]/,
    ],
    [
      "NaN",
      () => {
        const a = new Float32Array(3 * 265);
        a[265 + 20] = Number.NaN;
        writeFileSync(file("n.npy"), npyBytes({ shape: [3, 265], data: a }));
        return file("n.npy");
      },
      /bodyPose of frame 1 .* is NaN/,
    ],
    [
      "no frames",
      () => (writeFileSync(file("e.npy"), npyBytes({ shape: [0, 265], data: new Float32Array(0) })), file("e.npy")),
      /no frames/,
    ],
    ["another extension", () => (writeFileSync(file("x.bvh"), ""), file("x.bvh")), /not a motion file: expected \.npz/],
    ["a missing file", () => file("none.npz"), /cannot be read \(ENOENT\)/],
    [
      "half an archive",
      () => {
        saveMotion(file("h.npz"), random(3));
        writeFileSync(file("h.npz"), readFileSync(file("h.npz")).subarray(0, 900));
        return file("h.npz");
      },
      /not a usable \.npz archive/,
    ],
    [
      "Python objects",
      () => {
        const text = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".padEnd(117) + "\n";
        writeFileSync(
          file("o.npz"),
          zipSync({ "body_pose.npy": Buffer.concat([Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]), Buffer.from(text)]) }),
        );
        return file("o.npz");
      },
      /Python objects, which are not read because they can execute code/,
    ],
    [
      "an archive of something else",
      () => (writeNpz(file("s.npz"), new Map([["x", { shape: [1], data: new Float32Array(1) }]])), file("s.npz")),
      /not a motion file we know: it holds x/,
    ],
  ];
  for (const [what, make, message] of bad) it(`refuses ${what}`, () => expect(() => loadMotion(make())).toThrow(message));

  it("a zip bomb is refused before it unpacks", () => {
    writeFileSync(file("bomb.npz"), zipSync({ "body_pose.npy": new Uint8Array(1 << 20) }));
    const bytes = readFileSync(file("bomb.npz"));
    // The central directory claims more than it holds.
    const at = bytes.indexOf(Buffer.from([0x50, 0x4b, 0x01, 0x02]));
    bytes.writeUInt32LE(0x7fffffff, at + 24);
    writeFileSync(file("bomb.npz"), bytes);
    expect(() => readNpz(file("bomb.npz"))).toThrow(/unpacks to more than/);
  });

  it("other frame rates: half as many frames, angles that jump by 2π stay steady", () => {
    const m = emptyMotion(5, 30);
    for (let f = 0; f < 5; f++) m.globalOrient[3 * f] = f < 2 ? 3.1 : 3.1 - 2 * Math.PI;
    const r = resampleMotion(m, 60);
    expect(r.frames).toBe(10);
    expect(Math.abs(Math.abs(r.globalOrient[3 * 3]) - 3.1)).toBeLessThan(0.1);
    expect(resampleMotion(m, 15).frames).toBe(3);
  });
  it("sizes that disagree are named", () => {
    const m = emptyMotion(3, 30);
    expect(() => checkMotion({ ...m, jawPose: new Float32Array(4) }, "x")).toThrow(/x: jawPose holds 4 values, 3 frames of 3 need 9/);
  });
});

describe("fitting", () => {
  /** Of a joint before a camera, picture of 512². */
  const inPicture = (joints: Float32Array, joint: number) => {
    const z = joints[3 * joint + 2] + 9.5;
    return { x: 256 + (5000 * joints[3 * joint]) / z, y: 256 + (5000 * (joints[3 * joint + 1] + 0.7)) / z };
  };
  it("finds a known motion again from its projected points, hands missing for a while", async () => {
    const data = mannequin();
    const frames = 14;
    const m = emptyMotion(frames, 10, 10, 10);
    for (let f = 0; f < frames; f++) {
      const t = f / frames;
      m.globalOrient[3 * f] = Math.PI;
      const set = (joint: string, v: number[]) => m.bodyPose.set(v, f * 63 + (jointIndex(joint) - 1) * 3);
      set("left_shoulder", [0.1, -0.5 - 0.2 * t, -1.05]);
      set("right_shoulder", [0.1, 0.5, 1.05 + 0.1 * t]);
      set("left_elbow", [-0.4, -1.5 - 0.3 * t, 0]);
      set("right_elbow", [-0.4, 1.5, 0]);
      set("head", [0.1 * Math.sin(6 * t), 0.15 * Math.sin(4 * t), 0]);
      m.jawPose[3 * f] = 0.1 + 0.1 * Math.sin(9 * t);
    }
    using g = new Generator(9);
    const noise = scope(() => g.randn([frames * modelPoints.length * 2]).floats());
    using poser = new Poser(data);
    const seen: FrameLandmarks[] = Array.from({ length: frames }, (_, f) => {
      const { joints } = poser.pose(m, f);
      const all = landmarksOf((p, i) => {
        const n = (f * modelPoints.length + i) * 2;
        const { x, y } = inPicture(joints, p.joint);
        return { x: x + 0.5 * noise[n], y: y + 0.5 * noise[n + 1], score: 1 };
      });
      return f >= 5 && f < 8 ? { ...all, leftHand: undefined } : all;
    });
    const before = await settledTensors();
    const motion = await fitMotion(data, seen, { width: 512, height: 512, fps: 10 });
    const report = fitReport(data, motion, seen);
    expect(await settledTensors()).toEqual(before);
    expect(report.face.median).toBeLessThan(2.5);
    expect(report.hands.median).toBeLessThan(3);
    expect(report.body.median).toBeLessThan(5);
    expect(report.bridged.leftHand).toBe(3);
    expect(motion.frames).toBe(frames);
    // The hand that was not seen lies between where it was and where it came back.
    const wrist = (f: number) => poser.pose(motion, f).joints.slice(3 * 20, 3 * 20 + 2);
    const [a, b, c] = [wrist(4), wrist(6), wrist(8)];
    expect(Math.hypot(b[0] - (a[0] + c[0]) / 2, b[1] - (a[1] + c[1]) / 2)).toBeLessThan(0.03);
  });
  it("keeps fingers before the chest, where a picture cannot tell", async () => {
    const data = mannequin();
    // A hand before the chest whose thumb points into it; so much of it as a picture shows could as well point away.
    const m = emptyMotion(1, 10, 10, 10);
    m.globalOrient[0] = Math.PI;
    const set = (joint: string, v: number[]) => m.bodyPose.set(v, (jointIndex(joint) - 1) * 3);
    set("left_shoulder", [0.3, -0.5, -1.3]);
    set("left_elbow", [0.4, -1.5, -0.3]);
    set("left_wrist", [1, -1, 0.2]);
    set("right_shoulder", [0.1, 0.5, 1.05]);
    set("right_elbow", [-0.4, 1.5, 0]);
    const trunk = Array.from({ length: data.vTemplate.length / 3 }, (_, v) => v).filter(
      (v) => [0, 3, 6, 9].reduce((sum, joint) => sum + data.weights[v * 55 + joint], 0) > 0.6,
    );
    using poser = new Poser(data);
    /** By how much the thumb's tip lies behind the trunk's front, metres. */
    const inside = (motion: Motion): number => {
      const { vertices, joints } = poser.pose(motion, 0);
      const tip = joints.subarray(3 * 66, 3 * 67);
      const there = trunk.filter((v) => Math.hypot(vertices[3 * v] - tip[0], vertices[3 * v + 1] - tip[1]) < 0.02);
      expect(there.length).toBeGreaterThan(0);
      return tip[2] - Math.min(...there.map((v) => vertices[3 * v + 2]));
    };
    expect(inside(m)).toBeGreaterThan(0.02);
    const { joints } = poser.pose(m, 0);
    const seen = landmarksOf((p) => ({ ...inPicture(joints, p.joint), score: 1 }));
    const motion = await fitMotion(data, [seen], { width: 512, height: 512, fps: 10 });
    expect(inside(motion)).toBeLessThan(0);
    expect(fitReport(data, motion, [seen]).hands.median).toBeLessThan(3);
  });
  it("keeps the shape that it found, of whichever model", async () => {
    const at = (x: number, y: number) => ({ x, y, score: 1 });
    const body: FrameLandmarks["body"] = [...Array<undefined>(5).fill(undefined), at(310, 250), at(200, 250), at(330, 370), at(180, 370)];
    const bought = { ...mannequin(), name: "SMPLX_NEUTRAL.npz" };
    const motion = await fitMotion(bought, [{ body }], { width: 512, height: 512, fps: 10 });
    expect(motion.space).toBe("smplx");
    expect(motion.betas.some((b) => Math.abs(b) > 0.01)).toBe(true);
    using poser = new Poser(bought);
    expect(poser.pose(motion, 0).vertices).toEqual(poser.pose(motion, 0, motion.betas.slice()).vertices);
  });
  it("says what is missing when there is nothing to go by", async () => {
    await expect(fitMotion(mannequin(), [{ body: [] }], { width: 10, height: 10, fps: 1 })).rejects.toThrow(/no shoulders and no face/);
    await expect(fitMotion(mannequin(), [], { width: 10, height: 10, fps: 1 })).rejects.toThrow(/no frames/);
  });
});
