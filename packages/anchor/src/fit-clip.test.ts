import { afterAll, beforeAll, expect, test } from "vitest";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Poser, type FrameLandmarks, type Motion } from "@make-your-anchor/body";
import { probeVideo, VideoWriter } from "@make-your-anchor/media";
import { bodyModel } from "./body-models.ts";
import { fitClip } from "./fit-clip.ts";
import { observedSize, type Observation } from "./observe.ts";
import { Person } from "./people/person.ts";

const frames = 20;
let folder: string;
let clip: string;
let seen: Observation;

/** A made-up person's clip; of them a detector that never errs has seen shoulders and elbows. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "fit-"));
  clip = join(folder, "clip.mp4");
  using person = new Person(1, 128, frames, 10);
  using poser = new Poser(bodyModel("mannequin"));
  const writer = new VideoWriter(clip, { width: 128, height: 128, fps: 10 });
  const all: FrameLandmarks[] = [];
  const { focal, cx, cy, transl } = person.camera;
  const scale = observedSize / 128;
  for (let f = 0; f < frames; f++) {
    await writer.write(person.picture(f));
    const { joints } = poser.pose(person.motion, f);
    const at = (j: number) => {
      const [x, y, z] = [0, 1, 2].map((k) => joints[3 * j + k] + transl[k]);
      return { x: scale * ((focal * x) / z + cx), y: scale * ((focal * y) / z + cy), score: 1 };
    };
    all.push({ body: [...Array<undefined>(5).fill(undefined), at(16), at(17), at(18), at(19)] });
  }
  await writer.close();
  const crop = { x: 0, y: 0, width: 128, height: 128 };
  seen = { info: await probeVideo(clip), crop, fps: 10, frames, landmarks: (i) => all[i] };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** In parts of twelve frames, until `stop` steps are done; the motion, and how many steps there were to be. */
async function fit(name: string, stop = Infinity): Promise<{ motion: Motion; steps: number; first: number }> {
  const abort = new AbortController();
  let [steps, first] = [0, 0];
  const { motion } = await fitClip(clip, bodyModel("mannequin"), seen, {
    partLength: 12,
    keep: { folder: join(folder, name), of: "clip" },
    signal: abort.signal,
    onProgress: ({ done, total }) => {
      steps = total;
      first ||= done;
      if (done >= stop) abort.abort();
    },
  });
  return { motion, steps, first };
}

test(
  "a long clip is fitted part by part, with one shape; an interruption loses the stage under way alone",
  { timeout: 240_000 },
  async () => {
    const { motion, steps } = await fit("whole");
    expect(motion.frames).toBe(frames);
    // 60 and 140 steps are the first two stages.
    await expect(fit("broken", steps / 2 + 203)).rejects.toThrow();
    expect(readdirSync(join(folder, "broken")).sort()).toEqual(["0001.npz", "0002.stage.npz", "parts.json"]);
    const first = readFileSync(join(folder, "broken", "0001.npz"));
    const again = await fit("broken");
    expect([again.first, again.steps]).toEqual([201, steps / 2]);
    expect(readdirSync(join(folder, "broken")).sort()).toEqual(["0001.npz", "0002.npz", "parts.json"]);
    expect(again.motion).toEqual(motion);
    expect(readFileSync(join(folder, "broken", "0001.npz")).equals(first)).toBe(true);
    // Where one part goes over into the next, at frames 8 to 11, it moves no more than elsewhere.
    const most = (from: number, to: number) => {
      let largest = 0;
      for (let i = 63 * from; i < 63 * to; i++) largest = Math.max(largest, Math.abs(motion.bodyPose[i] - motion.bodyPose[i - 63]));
      return largest;
    };
    expect(most(8, 13)).toBeLessThan(2 * Math.max(most(1, 8), most(13, frames)));
  },
);
