/** A made-up speaker's motion: gestures, nods, blinks and a mouth that moves in syllables. Seeded; ours alone. */
import { emptyMotion, jointIndex, type Motion } from "@make-your-anchor/body";
import { eased, uniform, wander } from "./random.ts";

export interface ArmPose {
  shoulder: readonly [number, number, number];
  elbow: readonly [number, number, number];
  wrist: readonly [number, number, number];
  curl: number;
}

/** Left arm; the right one mirrors the y and z angles. */
export const gestures: readonly ArmPose[] = [
  { shoulder: [0.15, -0.45, -1.1], elbow: [-0.2, -1.35, 0], wrist: [0, 0, 0], curl: 0.15 },
  { shoulder: [0.1, -0.6, -1.05], elbow: [-0.6, -1.75, 0], wrist: [-0.2, 0.1, 0.1], curl: 0 },
  { shoulder: [0.0, -0.35, -0.95], elbow: [-0.9, -1.95, 0], wrist: [-0.4, 0, 0.2], curl: -0.05 },
  { shoulder: [0.2, -0.75, -1.15], elbow: [0.1, -1.5, 0], wrist: [0.2, 0, -0.2], curl: 0.45 },
  { shoulder: [0.05, -0.5, -0.85], elbow: [-1.0, -1.6, 0], wrist: [-0.3, 0, 0], curl: 0.05 },
  { shoulder: [0.2, -0.3, -1.25], elbow: [0.0, -1.1, 0], wrist: [0, 0, 0.1], curl: 0.25 },
];

/** `seconds` of speech-like motion at `fps`; other seeds give other speeches, another repertoire of gestures another speaker. */
export function speechMotion(seconds: number, fps: number, seed: number, repertoire: readonly ArmPose[] = gestures): Motion {
  const frames = Math.round(seconds * fps);
  const m = emptyMotion(frames, fps, 10, 10);
  const random = uniform(seed);
  const arms = [0, 1].map((side) => {
    const keys: { at: number; pose: ArmPose }[] = [{ at: 0, pose: repertoire[0] }];
    for (let t = 0.3 + random() * 0.5; t < seconds + 3;) {
      keys.push({ at: t, pose: repertoire[Math.floor(random() * repertoire.length)] });
      t += 0.45; // a stroke takes about half a second,
      if (random() < 0.6) {
        keys.push({ at: t, pose: keys[keys.length - 1].pose });
        t += 0.2 + random() * 0.8; // then the hand may rest
      }
    }
    const shake = Array.from({ length: 8 }, () => wander(random, 0.35 + random() * 0.4));
    return { side, keys, shake };
  });
  const w = (period: number) => wander(random, period);
  const sway = [w(2.2), w(1.6), w(2.8)];
  const head = [w(0.9), w(1.3), w(1.5)];
  const face = [w(1.7), w(2.3), w(1.1), w(1.9)];
  const gaze = [w(1.4), w(2.1)];
  const phrase = w(1.1);
  const syllable = w(0.09);
  const shape = [w(0.16), w(0.19)];
  let nextBlink = 0.8 + random() * 2;
  const blinks: number[] = [];
  while (nextBlink < seconds) {
    blinks.push(nextBlink);
    nextBlink += 1.6 + random() * 3.2;
  }
  const put = (joint: string, f: number, v: readonly number[]) => m.bodyPose.set(v, f * 63 + (jointIndex(joint) - 1) * 3);

  for (let f = 0; f < frames; f++) {
    const t = f / fps;
    m.globalOrient.set([Math.PI + 0.03 * sway[0](t), 0.06 * sway[1](t), 0.03 * sway[2](t)], 3 * f);
    m.transl.set([0.015 * sway[2](t), 0.006 * sway[0](t), 0], 3 * f);
    put("spine1", f, [0.03 * sway[0](t), 0.03 * sway[1](t), 0.02 * sway[2](t)]);
    put("spine2", f, [0.02 * sway[1](t), 0.04 * sway[2](t), 0.02 * sway[0](t)]);
    put("neck", f, [0.05 * head[0](t), 0.1 * head[1](t), 0.04 * head[2](t)]);
    put("head", f, [0.09 * head[0](t) + 0.03 * syllable(t), 0.16 * head[1](t), 0.07 * head[2](t)]);
    for (const { side, keys, shake } of arms) {
      const k = Math.max(
        0,
        keys.findLastIndex((x) => x.at <= t),
      );
      const [a, b] = [keys[k], keys[Math.min(keys.length - 1, k + 1)]];
      const x = b.at > a.at ? (t - a.at) / (b.at - a.at) : 1;
      const s = eased(x);
      const between = (p: readonly number[], q: readonly number[], i: number) => p[i] * (1 - s) + q[i] * s + 0.05 * shake[i](t);
      const sign = side === 0 ? 1 : -1;
      const name = side === 0 ? "left" : "right";
      const triple = (p: readonly number[], q: readonly number[]) => [0, 1, 2].map((i) => (i > 0 ? sign : 1) * between(p, q, i));
      put(`${name}_shoulder`, f, triple(a.pose.shoulder, b.pose.shoulder));
      put(`${name}_elbow`, f, triple(a.pose.elbow, b.pose.elbow));
      put(`${name}_wrist`, f, triple(a.pose.wrist, b.pose.wrist));
      const curl = a.pose.curl * (1 - s) + b.pose.curl * s;
      const hand = side === 0 ? m.leftHandPose : m.rightHandPose;
      for (let finger = 0; finger < 4; finger++) {
        for (let j = 0; j < 3; j++)
          hand[f * 45 + finger * 9 + j * 3 + 2] = -sign * (curl * (1 + 0.15 * finger) + 0.08 * shake[3 + finger](t));
      }
      hand[f * 45 + 36 + 1] = sign * 0.2 * shake[7](t);
    }
    const speaking = Math.min(1, Math.max(0, phrase(t) * 2 + 0.9));
    const open = speaking * Math.max(0, 0.09 + 0.12 * syllable(t));
    m.jawPose[3 * f] = open;
    const blink = Math.max(0, ...blinks.map((b) => 1 - Math.abs(t - b - 0.1) / 0.1));
    m.expression.set(
      [
        blink,
        blink,
        0.5 + 0.5 * face[0](t),
        0.25 + 0.25 * face[1](t),
        0.3 + 0.3 * face[2](t),
        0,
        speaking * Math.max(0, 0.5 * shape[0](t)),
        speaking * (0.2 + 0.2 * syllable(t)),
        speaking * Math.max(0, 0.4 * shape[1](t)),
        0.05,
      ],
      10 * f,
    );
    const look = [0.06 * gaze[0](t), 0.12 * gaze[1](t), 0];
    m.leyePose.set(look, 3 * f);
    m.reyePose.set(look, 3 * f);
  }
  return m;
}

/** A voice for the motion: a buzz through two resonances, as loud as the mouth is open. 16-bit mono wav bytes. */
export function speechSound(m: Motion, seed: number, rate = 16000): Uint8Array {
  const random = uniform(seed);
  const samples = Math.round((m.frames / m.fps) * rate);
  const out = Buffer.alloc(44 + samples * 2);
  out.write("RIFF", 0);
  out.writeUInt32LE(36 + samples * 2, 4);
  out.write("WAVEfmt ", 8);
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(1, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(rate, 24);
  out.writeUInt32LE(rate * 2, 28);
  out.writeUInt16LE(2, 32);
  out.writeUInt16LE(16, 34);
  out.write("data", 36);
  out.writeUInt32LE(samples * 2, 40);
  let phase = 0;
  const state = [0, 0, 0, 0];
  for (let i = 0; i < samples; i++) {
    const t = i / rate;
    const frame = Math.min(m.frames - 1, Math.floor(t * m.fps));
    const open = m.jawPose[3 * frame] / 0.2;
    phase += (115 + 25 * Math.sin(t * 2.3) + 30 * open) / rate;
    const buzz = 2 * (phase % 1) - 1 + 0.05 * (random() - 0.5);
    // Two resonances that follow the mouth.
    let y = 0;
    [350 + 450 * open, 1100 + 700 * open].forEach((frequency, k) => {
      const r = 0.97;
      const c = 2 * r * Math.cos((2 * Math.PI * frequency) / rate);
      const v = buzz * 0.03 + c * state[2 * k] - r * r * state[2 * k + 1];
      state[2 * k + 1] = state[2 * k];
      state[2 * k] = v;
      y += v / (k + 1);
    });
    out.writeInt16LE(Math.max(-32000, Math.min(32000, Math.round(9000 * y * Math.min(1, open * 2)))), 44 + 2 * i);
  }
  return out;
}
