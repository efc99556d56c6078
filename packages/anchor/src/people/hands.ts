/** How a made-up person's hands are held: forms they change between, fingers that bend each for itself, wrists that turn. Radians. */
import { jointIndex, type Motion } from "@make-your-anchor/body";
import { eased, uniform, wander, type Dice } from "./random.ts";

/** Fingers as the skeleton has them; each has three joints, and after them comes the thumb. */
const fingers = ["index", "middle", "pinky", "ring"] as const;
/** Turn of a left hand's finger about y at the knuckle that brings it beside the next one on the middle finger's side; at rest all are spread. */
const closing = { index: 0.14, middle: 0, pinky: -0.3, ring: -0.14 } as const;
const thumb = 4;

/** Bend of the three joints of each finger in the skeleton's order, how close the fingers are (0 spread, 1 side by side), and the thumb's bend. */
interface Form {
  bends: readonly (readonly [number, number, number])[];
  closed: number;
  thumb: number;
}

const form = (of: Record<(typeof fingers)[number], readonly [number, number, number]>, closed: number, thumbBend: number): Form => ({
  bends: fingers.map((f) => of[f]),
  closed,
  thumb: thumbBend,
});
const alike = (a: number, b: number, c: number, closed: number, thumbBend: number, more = 0.15): Form =>
  form(
    {
      index: [a, b, c],
      middle: [a * (1 + more), b * (1 + more), c],
      ring: [a * (1 + 2 * more), b * (1 + 2 * more), c],
      pinky: [a * (1 + 2.5 * more), b * (1 + 2.5 * more), c],
    },
    closed,
    thumbBend,
  );

/** What speakers' hands do: relaxed, more so, flat, open, half closed, a fist, pointing, thumb and forefinger together, fingertips bent. */
const forms: readonly Form[] = [
  alike(0.25, 0.45, 0.25, 0.5, 0.1),
  alike(0.4, 0.7, 0.35, 0.8, 0.2),
  alike(0.05, 0.08, 0.05, 1, 0, 0),
  alike(0.1, 0.2, 0.1, 0.1, -0.1, 0.05),
  alike(0.7, 1, 0.5, 0.9, 0.4, 0.08),
  alike(1.2, 1.4, 0.8, 1, 0.6, 0),
  form({ index: [0.1, 0.1, 0.05], middle: [0.9, 1.2, 0.7], ring: [1, 1.3, 0.7], pinky: [1, 1.3, 0.7] }, 0.8, 0.4),
  form({ index: [0.7, 0.8, 0.4], middle: [0.45, 0.6, 0.3], ring: [0.3, 0.45, 0.25], pinky: [0.2, 0.35, 0.2] }, 0.4, 0.4),
  form({ index: [0.55, 0.5, 0.3], middle: [0.6, 0.55, 0.3], ring: [0.6, 0.6, 0.3], pinky: [0.5, 0.6, 0.3] }, 1, 0.3),
];

/** Seconds between one form and the next. */
const period = 1.3;

/** Turns wrists, and puts the fingers of both hands into forms that change; some people's stay as their gestures have them. */
export function mannerOfHands(d: Dice, m: Motion, fps: number): void {
  const random = uniform(d.seed());
  const [turns, bends, spreads] = [d.range(0.1, 0.6), d.range(0.05, 0.35), d.range(0.02, 0.12)];
  const held = d.chance(0.85);
  const own = Array.from({ length: 3 + d.below(4) }, () => d.pick(forms));
  const both = d.chance(0.5);
  const some = (n: number) => Array.from({ length: n }, () => wander(random, 0.7 + random()));
  const sequence = () => Array.from({ length: Math.ceil(m.frames / fps / period) + 2 }, () => own[Math.floor(random() * own.length)]);
  const first = sequence();
  for (const [side, hand] of [
    ["left", m.leftHandPose],
    ["right", m.rightHandPose],
  ] as const) {
    const sign = side === "left" ? 1 : -1;
    const [wrist, each] = [some(3), some(45)];
    const shown = both || side === "left" ? first : sequence();
    const at = (jointIndex(`${side}_wrist`) - 1) * 3;
    for (let f = 0; f < m.frames; f++) {
      const t = f / fps;
      wrist.forEach((w, k) => (m.bodyPose[f * 63 + at + k] += (k === 0 ? 1.5 : 0.8) * turns * w(t)));
      const pose = hand.subarray(f * 45, (f + 1) * 45);
      if (held) {
        const place = t / period;
        const i = Math.floor(place);
        // Held for a while, then changed to the next.
        const x = Math.min(1, Math.max(0, (place - i - 0.4) / 0.6));
        hold(pose, shown[i], shown[i + 1], eased(x), sign);
      }
      // Fingers bend about z, and spread about y at the knuckle; a thumb turns about everything.
      each.forEach((w, k) => {
        const [finger, joint, axis] = [Math.floor(k / 9), Math.floor(k / 3) % 3, k % 3];
        const much =
          finger === thumb ? bends * 0.8 : axis === 2 ? bends * (joint === 0 ? 1.2 : 0.7) : axis === 1 && joint === 0 ? spreads : 0;
        pose[k] += much * w(t);
      });
    }
  }
}

/** Puts a hand's pose `[45]` between two forms; `sign` −1 for the right one. */
function hold(pose: Float32Array, a: Form, b: Form, share: number, sign: number): void {
  const between = (x: number, y: number) => x * (1 - share) + y * share;
  fingers.forEach((name, finger) => {
    for (let joint = 0; joint < 3; joint++)
      pose[finger * 9 + joint * 3 + 2] = -sign * between(a.bends[finger][joint], b.bends[finger][joint]);
    pose[finger * 9 + 1] = sign * closing[name] * between(a.closed, b.closed);
  });
  // Towards the palm.
  for (let joint = 0; joint < 3; joint++) pose[thumb * 9 + joint * 3 + 1] = sign * between(a.thumb, b.thumb);
}
