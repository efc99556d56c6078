import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Generator, saveSafetensors } from "@make-your-anchor/torch";
import { emptyMotion, jointIndex, mannequin, type Motion } from "@make-your-anchor/body";
import { applyAffine, type Affine, type RgbImage } from "@make-your-anchor/media";
import { BiSeNet, FaceTrack } from "@make-your-anchor/face";
import { ConditionRenderer } from "../conditions.ts";
import { atSize, headCrop, pasteHead } from "./crops.ts";
import { FaceParser } from "./parser.ts";
import { DetectedSight, meshSight } from "./sight.ts";
import { addSums, bestStrength } from "./strength.ts";

/** A presenter from head to hips before the camera, moved by `change`. */
function motionOf(change: (m: Motion) => void = () => {}): Motion {
  const motion = emptyMotion(1, 25, mannequin().expressionCount);
  motion.globalOrient.set([Math.PI, 0, 0]);
  motion.camera = { width: 256, height: 256, focal: 4000, cx: 128, cy: 128, transl: [0, 0.75, 12.5] };
  change(motion);
  return motion;
}
const sightOf = (change?: (m: Motion) => void) => {
  const motion = motionOf(change);
  const renderer = new ConditionRenderer("mannequin", motion.camera!, 256);
  try {
    return { sight: meshSight(renderer, motion, 0), render: renderer.render(motion, 0) };
  } finally {
    renderer.dispose();
  }
};
const bend = (m: Motion, joint: string, axisAngle: readonly number[]) => m.bodyPose.set(axisAngle, (jointIndex(joint) - 1) * 3);

const noisyPicture = (width: number, height: number): RgbImage => ({
  width,
  height,
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => 60 + ((i * 7919 + (i >> 4) * 31) % 140)),
});

describe("the face of the mesh", () => {
  it("is found where it is drawn", () => {
    const { sight, render } = sightOf();
    expect(sight.state).toBe("found");
    for (const p of sight.inner!) {
      const at = (Math.round(p.y) * 256 + Math.round(p.x)) * 3;
      expect(render.data[at + 2], `${p.x}, ${p.y}`).toBeGreaterThan(0); // on the mesh, not on black
    }
    // The subject's right eye is on the picture's left.
    expect(sight.inner![19].x).toBeLessThan(sight.inner![28].x);
  });
  it("is turned away in profile and from behind, but not at half a turn of the neck", () => {
    expect(sightOf((m) => bend(m, "neck", [0, 0.5, 0])).sight.state).toBe("found");
    expect(sightOf((m) => bend(m, "neck", [0, 1.5, 0])).sight.state).toBe("turned");
    expect(sightOf((m) => m.globalOrient.set([0, 0, Math.PI])).sight.state).toBe("turned");
  });
  it("is outside when it leaves the frame", () => {
    expect(sightOf((m) => m.transl.set([0.75, 0, 0])).sight.state).toBe("outside");
    expect(sightOf((m) => m.transl.set([0, 0, -20])).sight.state).toBe("missing"); // behind the camera
  });
  it("is covered by a hand before it, and not by one beside it", () => {
    // The upper arm forwards and inwards, the forearm straight up; or the upper arm to the side.
    const raise = (m: Motion, inwards: number) => {
      bend(m, "left_shoulder", [0, inwards, 0]);
      bend(m, "left_elbow", [0, 0, 1.6]);
    };
    expect(sightOf((m) => raise(m, -2.1)).sight.state).toBe("covered");
    expect(sightOf((m) => raise(m, -0.6)).sight.state).toBe("found");
  });
});

describe("the face in pictures", () => {
  const seen = (x: number, descriptor: number[]) => ({
    face: {
      score: 0.9,
      box: [x - 40, 60, 80, 80] as const,
      inner: Array.from({ length: 51 }, (_, i) => ({ x: x + (i % 7) * 5, y: 90 + (i % 5) * 5, score: 0.9 })),
      descriptor: Float32Array.from(descriptor),
    },
    body: [],
  });
  it("is the one that looks like the person where two are in view, and the likeness is asked for only then", async () => {
    const pictures = [[seen(120, [1, 0])], [seen(150, [0, 1]), seen(160, [1, 0])], [seen(400, [0, 1])]];
    let asked = 0;
    const sight = new DetectedSight({ detect: async () => ({ people: pictures.shift()! }), close: async () => {} }, async () => {
      asked++;
      return [1, 0];
    });
    const picture = noisyPicture(512, 512);
    expect((await sight.look(picture)).state).toBe("found");
    expect(asked).toBe(0);
    expect((await sight.look(picture)).inner![0].x).toBe(160);
    expect(asked).toBe(1);
    expect(await sight.look(picture)).toEqual({ state: "missing", inner: null }); // another's face, far away
  });
});

describe("crop and paste", () => {
  const size = 64;
  const setup = async () => {
    const { sight, render } = sightOf();
    const face = await new FaceTrack(() => sight, 1, { size }).at(0);
    const frame = noisyPicture(256, 256);
    return { face, frame, crop: headCrop(frame, render, face, size) };
  };

  it("a model that returns its input leaves the frame as it was, to the bit", async () => {
    const { face, frame, crop } = await setup();
    expect(pasteHead(frame, crop, crop.image, face.matrix!).data).toEqual(frame.data);
  });
  it("a painted face shows inside the mask, fades out around it, and leaves the rest alone", async () => {
    const { face, frame, crop } = await setup();
    const painted = { ...crop.image, data: crop.image.data.map((v) => v + 50) };
    const out = pasteHead(frame, crop, painted, face.matrix!, { matchColour: false });
    const change = (x: number, y: number) => out.data[(y * 256 + x) * 3] - frame.data[(y * 256 + x) * 3];
    const nose = face.inner![13];
    expect(change(Math.round(nose.x), Math.round(nose.y))).toBe(50);
    for (const [x, y] of [
      [2, 2],
      [250, 250],
      [128, 250],
    ])
      expect(change(x, y)).toBe(0);
    // No step larger than the fade's: from the middle outwards the change falls slowly.
    let last = 50;
    for (let x = Math.round(nose.x); x < 256; x++) {
      const now = change(x, Math.round(nose.y));
      expect(Math.abs(now - last)).toBeLessThanOrEqual(20);
      last = now;
    }
    expect(last).toBe(0);
    const half = pasteHead(frame, crop, painted, face.matrix!, { matchColour: false, strength: 0.5 });
    expect(
      half.data[(Math.round(nose.y) * 256 + Math.round(nose.x)) * 3] - frame.data[(Math.round(nose.y) * 256 + Math.round(nose.x)) * 3],
    ).toBe(25);
  });
  it("a cast over the whole crop is taken off by what was to be kept", async () => {
    const { face, frame, crop } = await setup();
    const cast = { ...crop.image, data: crop.image.data.map((v) => v + 20) };
    const off = (o: { matchColour: boolean }) => {
      const out = pasteHead(frame, crop, cast, face.matrix!, o);
      return out.data.reduce((worst, v, i) => Math.max(worst, Math.abs(v - frame.data[i])), 0);
    };
    expect(off({ matchColour: true })).toBe(0);
    expect(Math.abs(off({ matchColour: false }) - 20)).toBeLessThanOrEqual(1); // cubic warps overshoot
  });
  it("the mask is black over the face alone, the condition shows the mesh's face", async () => {
    const { crop } = await setup();
    const black = crop.mask.data.filter((v) => v === 0).length / crop.mask.data.length;
    expect(black).toBeGreaterThan(0.1);
    expect(black).toBeLessThan(0.5);
    const middle = ((size / 2) * size + size / 2) * 3;
    expect(crop.mask.data[middle]).toBe(0);
    expect(crop.mask.data[0]).toBe(255);
    expect(crop.condition.data[middle + 2]).toBeGreaterThan(0);
  });
  it("a parsing network's mask takes the landmarks' place", () => {
    const folder = mkdtempSync(join(tmpdir(), "parser-"));
    try {
      using g = new Generator(3);
      using net = new BiSeNet().initialize(g);
      const weights = new Map(net.stateDict());
      saveSafetensors(join(folder, "parser.safetensors"), weights);
      using parser = new FaceParser(join(folder, "parser.safetensors"));
      const image = noisyPicture(size, size);
      const labels = parser.labels(image);
      expect(labels).toHaveLength(512 * 512);
      const mask = parser.mask(image);
      expect([mask.width, mask.height]).toEqual([size, size]);
      // What the labels call a face is black in the mask, but for the border that resizing mixes.
      const isFace = (v: number) => ![0, 14, 15, 16, 17, 18].includes(v);
      const share = labels.reduce((n, v) => n + (isFace(v) ? 1 : 0), 0) / labels.length;
      const black = mask.data.reduce((n, v) => n + (v < 128 ? 1 : 0), 0) / mask.data.length;
      expect(Math.abs(share - black)).toBeLessThan(0.2);
      expect(() => new FaceParser(join(folder, "none.pth"))).toThrow(/cannot be read as a file of weights/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
  it("a matrix for another size of the same picture leads to the same place", () => {
    const m: Affine = [0.5, -0.1, 3, 0.1, 0.5, -4];
    const larger = atSize(m, 128, 512);
    // The middle of pixel (10, 20) of 128 is that of the block 40…43, 80…83 of 512.
    const [x, y] = applyAffine(larger, 41.5, 81.5);
    const [u, v] = applyAffine(m, 10, 20);
    expect(x).toBeCloseTo(u, 10);
    expect(y).toBeCloseTo(v, 10);
  });
});

describe("how much of the painted face is shown", () => {
  const picture = (of: (i: number) => number): RgbImage => ({
    width: 20,
    height: 20,
    data: Uint8Array.from({ length: 1200 }, (_, i) => of(i)),
  });
  const wrong = (i: number, k: number) => ((i * 7919 * k + 31 * k) % 41) - 20;
  const chosen = (body: RgbImage, painted: RgbImage, truth: RgbImage) => {
    const sums = { dd: 0, dr: 0, rr: 0, count: 0 };
    addSums(sums, body, painted, truth);
    return bestStrength(sums, 1);
  };
  const truth = picture(() => 128);
  const rough = (by: number, k: number) => picture((i) => 128 + Math.round(by * wrong(i, k)));

  it("is more of the better one, and the mean of both is nearer to the truth than either", () => {
    const even = chosen(rough(1, 1), rough(1, 3), truth);
    expect(even.strength).toBeCloseTo(0.5, 1);
    expect(even.psnr!.shown).toBeGreaterThan(Math.max(even.psnr!.body, even.psnr!.painted) + 1);
    const better = chosen(rough(1, 1), rough(0.5, 3), truth);
    expect(better.strength).toBeGreaterThan(0.7);
    expect(better.psnr!.painted).toBeGreaterThan(better.psnr!.body);
  });
  it("is all of a perfect one, nothing of one that adds mistakes, and all of it where there is nothing to tell by", () => {
    expect(chosen(rough(1, 1), truth, truth)).toMatchObject({ strength: 1, frames: 1 });
    const worse = chosen(truth, rough(1, 1), truth);
    expect(worse.strength).toBe(0);
    expect(worse.psnr!.shown).toBe(worse.psnr!.body);
    expect(chosen(truth, truth, truth)).toEqual({ strength: 1, frames: 0, psnr: null });
  });
});
