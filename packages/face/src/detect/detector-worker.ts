/** One thread of the default detector. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parentPort } from "node:worker_threads";
import type { RgbImage } from "@make-your-anchor/media";
import { cutHand, distinctHands, handCrop, placeIn } from "./hand-crop.ts";
import {
  meshToInner,
  cocoNames,
  type Detection,
  type FaceLandmarks,
  type HandLandmarks,
  type PersonLandmarks,
  type Point,
} from "./landmarks.ts";

const require = createRequire(import.meta.url);

/** A package's folder; Human's own `exports` are malformed, so its files are found by path. */
function packageFolder(name: string): string {
  for (const base of require.resolve.paths(name) ?? []) if (existsSync(join(base, name, "package.json"))) return join(base, name);
  throw new Error(`the package ${name} is not installed`);
}

interface Keypoint {
  part: string;
  position: [number, number];
  /** The same as shares of the picture. */
  positionRaw: [number, number];
  score: number;
}
interface HumanResult {
  face: {
    score: number;
    boxScore: number;
    faceScore: number;
    box: [number, number, number, number];
    mesh: [number, number, number][];
    embedding?: number[];
  }[];
  body: { score: number; box: [number, number, number, number]; keypoints: Keypoint[] }[];
  hand: { score: number; boxScore: number; box: [number, number, number, number]; keypoints: [number, number, number][] }[];
}

const human = packageFolder("@vladmandic/human");
const wasm = packageFolder("@tensorflow/tfjs-backend-wasm");
// Models are files: Human asks for them by fetch. Nothing else is asked for, and nothing else would be answered.
globalThis.fetch = (async (input: string | URL | Request) => {
  const url = new URL(input instanceof Request ? input.url : String(input));
  if (url.protocol !== "file:") throw new Error(`no network access: ${url}`);
  const bytes = readFileSync(fileURLToPath(url));
  return new Response(bytes, {
    headers: { "content-type": url.pathname.endsWith(".json") ? "application/json" : "application/octet-stream" },
  });
}) as typeof fetch;
for (const level of ["log", "info", "warn", "debug"] as const) console[level] = () => {}; // libraries' chatter would mix with ours

const { Human } = require(join(human, "dist/human.node-wasm.js"));
const engine = new Human({
  backend: "wasm",
  wasmPath: `${join(wasm, "dist")}/`,
  modelBasePath: pathToFileURL(`${join(human, "models")}/`).href,
  debug: false,
  cacheSensitivity: 0,
  warmup: "none",
  filter: { enabled: false },
  gesture: { enabled: false },
  object: { enabled: false },
  segmentation: { enabled: false },
  face: {
    enabled: true,
    detector: { rotation: false, maxDetected: 4, minConfidence: 0.3, return: false },
    mesh: { enabled: true },
    iris: { enabled: true },
    description: { enabled: false, minConfidence: 0 },
    emotion: { enabled: false },
    attention: { enabled: false },
  },
  body: { enabled: true, maxDetected: 1, minConfidence: 0.15 },
  hand: { enabled: true, rotation: true, landmarks: true, maxDetected: 4, minConfidence: 0.35 },
});
const tf = require(require.resolve("@tensorflow/tfjs-core", { paths: [dirname(join(human, "package.json"))] }));
let ready: Promise<unknown> | undefined;

/** Side of what the hands' landmark model looks at, pixels. */
const handSide = 224;
/** Looks at a hand that was found: the first of them stands upright, the second is cut by what that one saw. */
const looks = 2;
/** Wrist, and four of each finger. */
const handPoints = 21;
/** How sure the model must be that it sees a hand. */
const surely = 0.5;
interface Found {
  dataSync(): Float32Array;
  dispose(): void;
}
let handModel: Promise<{ execute(input: unknown, outputs: string[]): [Found, Found] }> | undefined;

/** One of Human's hands, or one followed from the picture before. */
interface Hand {
  score: number;
  keypoints: [number, number, number][];
}

/** A hand's 21 points, looked for in an upright crop around the ones there are; null where the model sees no hand in it. */
async function lookAgain(image: RgbImage, points: readonly (readonly [number, number, number])[]): Promise<[number, number][] | null> {
  handModel ??= engine.tf.loadGraphModel(pathToFileURL(join(human, "models/handlandmark-lite.json")).href) as NonNullable<typeof handModel>;
  const model = await handModel;
  const crop = handCrop(points.map(([x, y]) => [x, y] as const));
  const input = tf.tensor(cutHand(image, crop, handSide), [1, handSide, handSide, 3], "float32");
  const outputs = model.execute(input, ["Identity_1", "Identity"]);
  const [[sure], found] = outputs.map((t) => t.dataSync());
  for (const t of [input, ...outputs]) t.dispose();
  if (!(sure >= surely)) return null;
  return points.map((_, k) => placeIn(crop, found[3 * k] / handSide, found[3 * k + 1] / handSide));
}

/** The hand where more careful looks see it, each cut by what the one before saw; null where the first sees none. */
async function lookCloser(image: RgbImage, hand: Hand): Promise<Hand | null> {
  let seen: Hand | null = null;
  for (let look = 0; look < looks; look++) {
    const again = await lookAgain(image, (seen ?? hand).keypoints);
    if (again === null) break;
    seen = { score: hand.score, keypoints: again.map(([x, y]) => [x, y, 0]) };
  }
  return seen;
}

/** Hands of the picture before, where they are now. */
async function followHands(image: RgbImage, before: readonly HandLandmarks[]): Promise<Hand[]> {
  const found: Hand[] = [];
  for (const { score, points } of before) {
    const seen = await lookCloser(image, { score, keypoints: points.map(({ x, y }) => [x, y, 0]) });
    if (seen) found.push(seen);
  }
  return distinctHands(found);
}

/** Hands found anywhere in the picture, besides those that were followed into it. */
async function allHands(image: RgbImage, found: readonly Hand[], followed: readonly Hand[]): Promise<Hand[]> {
  const hands = distinctHands(found);
  for (const [i, hand] of hands.entries()) if (hand.keypoints.length === handPoints) hands[i] = (await lookCloser(image, hand)) ?? hand;
  return [...hands, ...followed.filter((f) => distinctHands([...hands, f]).length > hands.length)];
}

const distance = (a: Point, b: Point) => Math.hypot(a.x - b.x, a.y - b.y);

function assemble(result: HumanResult, found: readonly Hand[]): Detection {
  const faces: FaceLandmarks[] = result.face
    .filter((f) => f.mesh.length >= 468)
    .map((f) => {
      const score = f.faceScore || f.boxScore || f.score;
      const at = (i: number): Point => ({ x: f.mesh[i][0], y: f.mesh[i][1], score });
      const descriptor = f.embedding && f.embedding.length > 0 ? Float32Array.from(f.embedding) : undefined;
      return { score, descriptor, box: f.box, inner: meshToInner.map(at), irises: f.mesh.length >= 478 ? [at(473), at(468)] : undefined };
    });
  const bodies = result.body.map((b) =>
    cocoNames.map((name): Point | undefined => {
      const k = b.keypoints.find((p) => p.part === name);
      return k && k.score > 0 ? { x: k.position[0], y: k.position[1], score: k.score } : undefined;
    }),
  );
  const hands: HandLandmarks[] = found
    .filter((h) => h.keypoints.length === handPoints)
    .map(({ score, keypoints }) => ({ score, points: keypoints.map(([x, y]) => ({ x, y, score })) }));

  // A body belongs to the face nearest its nose; the body model follows one person, further faces stay alone.
  const people: PersonLandmarks[] = faces.map((face) => ({ face, body: [] }));
  for (const body of bodies) {
    const nose = body[0];
    const mine = people
      .filter((p) => p.body.length === 0 && nose)
      .sort((a, b) => distance(center(a.face!), nose!) - distance(center(b.face!), nose!))
      .find((p) => distance(center(p.face!), nose!) < p.face!.box[3] * 1.2);
    if (mine) mine.body = body;
    else people.push({ body });
  }
  // Hands say not which they are: the nearer wrist of a body decides, best hands first.
  const claims = hands.flatMap((hand) =>
    people.flatMap((person) =>
      (
        [
          ["leftHand", 9, 7],
          ["rightHand", 10, 8],
        ] as const
      ).flatMap(([side, wrist, elbow]) => {
        const w = person.body[wrist];
        if (!w) return [];
        const e = person.body[elbow];
        const size = Math.max(...hand.points.map((p) => distance(p, hand.points[0])));
        const d = distance(w, hand.points[0]);
        return d < Math.max(size * 1.6, e ? distance(e, w) * 0.8 : 0) ? [{ hand, person, side, d }] : [];
      }),
    ),
  );
  const taken = new Set<HandLandmarks>();
  for (const { hand, person, side } of claims.sort((a, b) => a.d - b.d)) {
    if (taken.has(hand) || person[side]) continue;
    person[side] = hand;
    taken.add(hand);
  }
  return { people };
}

const center = (f: FaceLandmarks): Point => ({ x: f.box[0] + f.box[2] / 2, y: f.box[1] + f.box[3] / 2, score: 1 });

interface Request {
  id: number;
  describe: boolean;
  hands: HandLandmarks[];
  searchHands: boolean;
  width: number;
  height: number;
  data: Uint8Array;
}
/** One picture after another: the engine's settings are its own, not a call's. */
let queue: Promise<void> = Promise.resolve();
parentPort!.on("message", (request: Request) => {
  queue = queue.then(() => look(request));
});

async function look({ id, describe, hands, searchHands, width, height, data }: Request): Promise<void> {
  try {
    ready ??= engine.load();
    await ready;
    const image = { width, height, data };
    const followed = await followHands(image, hands);
    const enabled = searchHands || followed.length < hands.length;
    const input = tf.tensor(data, [1, height, width, 3], "float32");
    const result = (await engine.detect(input, { face: { description: { enabled: describe } }, hand: { enabled } })) as HumanResult;
    tf.dispose(input);
    const seen = result.hand.map(({ score, boxScore, keypoints }) => ({ score: score || boxScore, keypoints }));
    const detection = assemble(result, enabled ? await allHands(image, seen, followed) : followed);
    // Human keeps these objects, and a point that moved by less than 0.005 of the picture since the picture before stays where it was. Which
    // picture a thread saw before is chance, and a body at rest is no reason to be a pixel or two off.
    for (const { keypoints } of result.body) for (const k of keypoints) if (k) k.positionRaw = [Number.NaN, Number.NaN];
    parentPort!.postMessage({ id, detection });
  } catch (error) {
    parentPort!.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}
