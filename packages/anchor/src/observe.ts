/** From a clip to landmarks: finding the person, choosing the crop, and following them through every frame. */
import { decodeVideo, probeVideo, type RgbImage, type VideoInfo } from "@make-your-anchor/media";
import {
  alike,
  cosine,
  createDetector,
  lastSeenOf,
  type Detection,
  type Detector,
  type HandLandmarks,
  type LastSeen,
  type PersonLandmarks,
} from "@make-your-anchor/face";
import type { FrameLandmarks } from "@make-your-anchor/body";
import { DetectionLog } from "./detection-log.ts";
import { AnchorError } from "./errors.ts";
import { FollowedPerson, isPlain, typicalDescriptor } from "./follow.ts";
import type { WorkOptions } from "./progress.ts";

export interface Crop {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Observation {
  info: VideoInfo;
  crop: Crop;
  fps: number;
  frames: number;
  /** Of a frame: read from what was kept of it. */
  landmarks: (frame: number) => FrameLandmarks;
}
/** What is noted of all frames together. */
interface Followed {
  info: VideoInfo;
  crop: Crop;
  fps: number;
  /** Which of the people seen in each frame is the one the clip is about; -1 where they are not to be seen. */
  who: number[];
}

/** Side of the pictures the detector looks at. */
export const observedSize = 512;
/** Of a clip of more frames a second so many are looked at. */
const mostFps = 30;
/**
 * Frames in which hands are followed from one to the next; the whole picture is searched for them at the beginning of each run. A run's frames are looked
 * at one after another, runs side by side: what is found does not depend on how many threads there are.
 */
const runLength = 12;
/** Where fewer than two hands are followed, the picture is searched every so many frames. */
const searchEvery = 3;
/** Fewer frames teach nothing: half a second. */
const fewestFrames = 15;

const faceCenter = (p: PersonLandmarks): [number, number] | undefined =>
  p.face ? [p.face.box[0] + p.face.box[2] / 2, p.face.box[1] + p.face.box[3] / 2] : undefined;

/** Largest side first: who fills most of the picture is who the clip is about. */
function mainPeople(d: Detection, picture: { width: number; height: number }): PersonLandmarks[] {
  return d.people
    .filter((p) => p.face && p.face.score > 0.4 && p.face.box[3] > 0.03 * picture.height)
    .sort((a, b) => b.face!.box[3] - a.face!.box[3]);
}

/** Of all the people in a picture. */
export const handsOf = ({ people }: Detection): HandLandmarks[] =>
  people.flatMap((p) => [p.leftHand, p.rightHand].filter((h) => h !== undefined));

/** Who the clip is about, as a few frames spread over it show. */
interface Found {
  /** A square around head, shoulders and hands. */
  crop: Crop;
  /** Where the face was, in pixels of the observed pictures. */
  seenAt: LastSeen[];
  descriptor: number[] | undefined;
}

async function findPerson(path: string, info: VideoInfo, detector: Detector, o: WorkOptions): Promise<Found> {
  const looks = Math.max(4, Math.min(12, Math.floor(info.durationSeconds * 2)));
  const scale = Math.min(1, 960 / Math.max(info.width, info.height));
  const [width, height] = [Math.round(info.width * scale), Math.round(info.height * scale)];
  const frames: RgbImage[] = [];
  const every = info.durationSeconds / looks;
  for await (const frame of decodeVideo(path, {
    fps: Math.min(info.fps, 1 / Math.max(1e-3, every)),
    width,
    height,
    maxFrames: looks,
    signal: o.signal,
  }))
    frames.push(frame);
  const xs: [number, number][] = [];
  const ys: [number, number][] = [];
  const faces: NonNullable<PersonLandmarks["face"]>[] = [];
  let crowded = 0;
  let seen = 0;
  const found = await Promise.all(frames.map((f) => detector.detect(f, { describe: true })));
  found.forEach((d, i) => {
    const people = mainPeople(d, frames[i]);
    if (people.length === 0) return;
    seen++;
    // A picture of a face on a wall is small beside the speaker; a second person is not.
    if (people.length > 1 && people[1].face!.box[3] > 0.6 * people[0].face!.box[3]) crowded++;
    const p = people[0];
    const [fx, fy] = faceCenter(p)!;
    const size = p.face!.box[3];
    const points = [
      ...p.body.slice(0, 13).filter((b) => b && b.score > 0.3),
      ...(p.leftHand?.points ?? []),
      ...(p.rightHand?.points ?? []),
    ] as { x: number; y: number }[];
    xs.push([Math.min(fx - 1.6 * size, ...points.map((q) => q.x)), Math.max(fx + 1.6 * size, ...points.map((q) => q.x))]);
    ys.push([fy - 1.3 * size, Math.max(fy + 2 * size, ...points.map((q) => q.y))]);
    faces.push(p.face!);
    o.onProgress?.({ stage: "finding the person", done: i + 1, total: frames.length });
  });
  if (seen < Math.max(1, frames.length / 3)) {
    throw new AnchorError(
      "NO_PERSON",
      `${path}: no person was found (a face in ${seen} of ${frames.length} frames looked at): use a clip of one person facing the camera, upright, lit well, head and hands in view`,
    );
  }
  if (crowded > seen / 3) {
    throw new AnchorError(
      "TWO_PEOPLE",
      `${path}: more than one person is in view (in ${crowded} of ${seen} frames looked at): cut or crop the clip so that only the one to learn is seen`,
    );
  }
  const quantile = (v: number[], q: number) => v.sort((a, b) => a - b)[Math.min(v.length - 1, Math.round(q * (v.length - 1)))];
  const left = quantile(
    xs.map((x) => x[0]),
    0.1,
  );
  const right = quantile(
    xs.map((x) => x[1]),
    0.9,
  );
  const top = quantile(
    ys.map((y) => y[0]),
    0.1,
  );
  const bottom = quantile(
    ys.map((y) => y[1]),
    0.9,
  );
  const limit = Math.min(width, height);
  const side = Math.min(limit, Math.max(right - left, bottom - top) * 1.12);
  const cx = (left + right) / 2;
  const cy = (top + bottom) / 2;
  const place = (center: number, size: number) => Math.max(0, Math.min(size - side, center - side / 2));
  const even = (x: number) => Math.round(x / scale / 2) * 2;
  const [x, y, s] = [even(place(cx, width)), even(place(cy, height)), Math.min(even(side), info.width, info.height)];
  const crop = { x: Math.min(x, info.width - s), y: Math.min(y, info.height - s), width: s, height: s };
  const k = observedSize / s;
  const descriptor = typicalDescriptor(faces.flatMap((f) => f.descriptor ?? []));
  // Another's face, in a look from which the person was gone, says nothing of where theirs is.
  const theirs = faces.filter((f) => !descriptor || !f.descriptor || cosine(f.descriptor, descriptor) >= alike);
  const seenAt = theirs.map(lastSeenOf).map((f) => ({
    x: (f.x / scale - crop.x) * k,
    y: (f.y / scale - crop.y) * k,
    size: (f.size / scale) * k,
  }));
  return { crop, seenAt, descriptor: descriptor && Array.from(descriptor) };
}

function toFrameLandmarks(p: PersonLandmarks | undefined): FrameLandmarks {
  if (!p) return { body: [] };
  return { body: p.body, face: p.face?.inner, irises: p.face?.irises, leftHand: p.leftHand?.points, rightHand: p.rightHand?.points };
}

/**
 * Finds the person and their landmarks in every frame.
 * @param o.keep where what was seen is kept as it comes, and what tells the clip from another: an interrupted search goes on behind it, and the
 * landmarks are read from there
 * @throws {AnchorError} `NO_PERSON`, `TWO_PEOPLE`, `TOO_SHORT`
 */
export async function observeClip(path: string, o: WorkOptions & { keep: { path: string; clip: string } }): Promise<Observation> {
  const info = await probeVideo(path);
  const fps = Math.min(info.fps, mostFps);
  const expected = Math.max(1, Math.round(info.durationSeconds * fps));
  if (expected < fewestFrames) throw tooShort(path, expected);
  const log = new DetectionLog(o.keep.path, JSON.stringify([o.keep.clip, fps, observedSize]));
  let followed = log.noted("followed") as Followed | undefined;
  if (!followed) {
    const { crop, descriptor, frames } = await look(path, info, fps, expected, log, o);
    if (frames < fewestFrames) throw tooShort(path, frames);
    const person = new FollowedPerson(descriptor);
    const biggest = (d: Detection) => mainPeople(d, { width: observedSize, height: observedSize })[0];
    const who = Array.from({ length: frames }, (_, i) => {
      const d = log.known(i)!;
      const found = person.next(d, biggest);
      return found ? d.people.indexOf(found) : -1;
    });
    followed = { info, crop, fps, who };
    log.note("followed", followed);
  }
  const { who, ...rest } = followed;
  const landmarks = (i: number) => toFrameLandmarks(who[i] < 0 ? undefined : log.known(i)!.people[who[i]]);
  return { ...rest, frames: who.length, landmarks };
}

const tooShort = (path: string, frames: number) =>
  new AnchorError(
    "TOO_SHORT",
    `${path}: ${frames} frames are too few to learn a person from: give at least ${fewestFrames}, better half a minute`,
  );

/** Looks at every frame that the log does not know yet. */
async function look(
  path: string,
  info: VideoInfo,
  fps: number,
  expected: number,
  log: DetectionLog,
  o: WorkOptions,
): Promise<Found & { frames: number }> {
  const detector = createDetector();
  try {
    let found = log.noted("person") as Found | undefined;
    if (!found) {
      found = await findPerson(path, info, detector, o);
      log.note("person", found);
    }
    const { crop, seenAt } = found;
    const running: Promise<unknown>[] = [];
    const ahead = runLength * (detector.workers + 1); // a run for each thread, and the next
    /** Hands of the frame before. */
    let before: Promise<HandLandmarks[]> = Promise.resolve([]);
    let index = 0;
    let done = 0;
    for await (const frame of decodeVideo(path, {
      fps, // a phone's frames are not all as long: those of the fit, and those that are kept, are counted at this rate too
      crop,
      width: observedSize,
      height: observedSize,
      signal: o.signal,
    })) {
      const i = index++;
      const known = log.known(i);
      if (known) {
        done++; // not told: it took no time, and would make what is left seem short
        before = Promise.resolve(handsOf(known));
        continue;
      }
      const begins = i % runLength === 0;
      const looked = (begins ? Promise.resolve([]) : before).then(async (hands) => {
        const looking = { hands, searchHands: begins || (hands.length < 2 && i % searchEvery === 0) };
        const plain = await detector.detect(frame, looking);
        const d = isPlain(plain, seenAt) ? plain : await detector.detect(frame, { ...looking, describe: true });
        log.add(i, d);
        done++;
        o.onProgress?.({ stage: "finding landmarks", done, total: Math.max(expected, done) });
        return handsOf(d);
      });
      before = looked;
      looked.catch(() => {}); // told when its turn comes
      running.push(looked);
      if (running.length >= ahead) await running.shift();
    }
    while (running.length > 0) {
      await running.shift();
      o.signal?.throwIfAborted();
    }
    return { ...found, frames: index };
  } finally {
    await detector.close();
  }
}
