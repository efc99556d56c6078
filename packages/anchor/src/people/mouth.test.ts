import { emptyMotion, mannequin, mannequinSurface, Poser, Rasteriser } from "@make-your-anchor/body";
import { expect, test } from "vitest";
import { mouth } from "./mouth.ts";

const size = 96;
/** Of a background that no material has. */
const marked = (image: { data: Uint8Array }) => {
  let count = 0;
  for (let i = 0; i < image.data.length; i += 3) if (image.data[i] > 240 && image.data[i + 1] < 15 && image.data[i + 2] > 240) count++;
  return count;
};

test("nothing is seen through an open mouth: there are teeth, and darkness", () => {
  const data = mannequin();
  const within = mouth();
  using poser = new Poser(data);
  const motion = emptyMotion(1, 30, 10, 10);
  motion.globalOrient[0] = Math.PI;
  motion.jawPose[0] = 0.25;
  const { vertices } = poser.pose(motion, 0);
  // Six centimetres about the lips, from a metre.
  const { regions } = mannequinSurface();
  const lips = regions.flatMap((r, v) => (r.endsWith("Lip") ? [v] : []));
  const middle = [0, 1, 2].map((k) => lips.reduce((sum, v) => sum + vertices[3 * v + k], 0) / lips.length);
  const focal = size / 0.06;
  const transl = [-middle[0], -middle[1], 1 - middle[2]] as [number, number, number];
  const camera = { width: size, height: size, focal, cx: size / 2, cy: size / 2, transl };
  const background = new Uint8Array(3 * size * size);
  for (let i = 0; i < background.length; i += 3) background.set([255, 0, 255], i);
  const open = new Rasteriser(data.faces).render(vertices, camera, { background });
  expect(marked(open)).toBeGreaterThan(50);
  const seen = { teeth: 0, inside: 0, skin: 0 };
  const filled = new Rasteriser(within.faces).render(within.withMouth(vertices), camera, {
    background,
    shader: (out, face, w0, w1, w2) => {
      seen[face < within.firstFace ? "skin" : within.at(face, w0, w1, w2)]++;
      out.fill(0.2);
    },
  });
  expect(marked(filled)).toBe(0);
  expect(seen.teeth).toBeGreaterThan(10);
  expect(seen.inside).toBeGreaterThan(10);
  expect(seen.skin).toBeGreaterThan(seen.teeth + seen.inside);
});
