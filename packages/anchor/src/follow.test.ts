import { expect, test } from "vitest";
import type { Detection, FaceLandmarks, PersonLandmarks } from "@make-your-anchor/face";
import { FollowedPerson, isPlain, typicalDescriptor } from "./follow.ts";

const own = Float32Array.of(1, 0, 0.1);
const other = Float32Array.of(0.4, 1, 0);
const face = (x: number, descriptor?: Float32Array, size = 100): FaceLandmarks => ({
  score: 0.9,
  box: [x - size / 2, 100, size, size],
  inner: [],
  irises: undefined,
  descriptor,
});
const frame = (...faces: FaceLandmarks[]): Detection => ({ people: faces.map((f): PersonLandmarks => ({ face: f, body: [] })) });
const biggest = (d: Detection) => d.people.toSorted((a, b) => b.face!.box[3] - a.face!.box[3])[0];
const middles = (frames: Detection[], reference?: Float32Array) => {
  const person = new FollowedPerson(reference);
  return frames.map((d) => {
    const p = person.next(d, biggest);
    return p?.face ? p.face.box[0] + p.face.box[2] / 2 : null;
  });
};

test("the person is followed as they move, whoever else comes into view", () => {
  const frames = [
    frame(face(250)),
    frame(face(260)),
    frame(face(270, own), face(400, other, 140)),
    frame(face(280, own), face(300, other)),
  ];
  expect(middles(frames, own)).toEqual([250, 260, 270, 280]);
});

test("when the person is gone, another's face is not taken for theirs; they are found again, wherever they come back", () => {
  const frames = [frame(face(250)), frame(face(330, other)), frame(face(250, other)), frame(), frame(face(400, own), face(250, other))];
  expect(middles(frames, own)).toEqual([250, null, null, null, 400]);
});

test("a turned or blurred look, unlike the person, is theirs while they move on smoothly", () => {
  expect(middles([frame(face(250)), frame(face(255, other)), frame(face(262, other))], own)).toEqual([250, 255, 262]);
});

test("without descriptors a face far from the last one is another's", () => {
  expect(middles([frame(face(100)), frame(face(400)), frame(face(110))])).toEqual([100, null, 110]);
});

test("a body without a face stays the person's only where their head was", () => {
  const bodyAt = (x: number): Detection => ({ people: [{ body: [{ x, y: 150, score: 0.8 }] }] });
  const person = new FollowedPerson(own);
  person.next(frame(face(250)), biggest);
  expect(person.next(bodyAt(260), biggest)?.body).toHaveLength(1);
  expect(person.next(bodyAt(460), biggest)).toBeUndefined();
});

test("frames that leave no doubt need no description", () => {
  const seenAt = [{ x: 250, y: 150, size: 100 }];
  expect(isPlain(frame(), seenAt)).toBe(true);
  expect(isPlain(frame(face(260)), seenAt)).toBe(true);
  expect(isPlain(frame(face(300)), seenAt)).toBe(false);
  expect(isPlain(frame(face(250), face(260)), seenAt)).toBe(false);
  expect(typicalDescriptor([other, own, Float32Array.of(1, 0, 0.2)])).toBe(own);
});
