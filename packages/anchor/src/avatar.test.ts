import { expect, test } from "vitest";
import { Avatar, avatarSchema } from "./avatar.ts";

const none = { median: null, p95: null };
const info = {
  format: 1,
  name: "a",
  preset: "mini",
  resolution: 128,
  fps: 25,
  frames: 10,
  heldOutFrom: 8,
  bodyModel: "mannequin",
  clip: { source: "a.mp4", crop: { x: 0, y: 0, width: 8, height: 8 }, hasAudio: false },
  fit: { body: none, hands: none, face: none, bridged: { body: 0, leftHand: 0, rightHand: 0, face: 0 } },
  created: "",
  tool: "",
};

test("frames without the person are neither learnt from nor measured; where the face alone is hidden, the body is", () => {
  const avatar = new Avatar("/a", avatarSchema.parse({ ...info, unseen: { person: [0, 3, 8], face: [0, 3, 5, 8] } }));
  expect(avatar.trainingFrames).toEqual([1, 2, 4, 5, 6, 7]);
  expect(avatar.framesWithPerson(8, 10)).toEqual([9]);
  expect(avatar.referencePath).toBe(avatar.frame(1));
  expect([1, 3, 5].map((i) => avatar.showsFace(i))).toEqual([true, false, false]);
});

test("avatars of before, without that list, show the person everywhere", () => {
  const avatar = new Avatar("/a", avatarSchema.parse(info));
  expect(avatar.trainingFrames).toHaveLength(8);
  expect(avatar.referencePath).toBe(avatar.frame(0));
  expect(avatar.showsFace(3)).toBe(true);
});
