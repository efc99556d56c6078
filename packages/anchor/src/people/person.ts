/** Made-up people before a camera: pictures and the mesh renders that go with them, by seed. Ours alone, no outside pictures. */
import { ambientOcclusion, Poser, Rasteriser, toByte, type Motion, type MotionCamera } from "@make-your-anchor/body";
import { gaussianBlur, resizePil, type RgbImage } from "@make-your-anchor/media";
import { ConditionRenderer } from "../conditions.ts";
import { presets } from "../presets.ts";
import { randomBackdrop, randomForeground } from "./backdrop.ts";
import { dress, type Dressed } from "./dress.ts";
import { personShader, randomLight, type Light } from "./light.ts";
import { randomLook, type Look } from "./look.ts";
import { mouth } from "./mouth.ts";
import { perform } from "./performance.ts";
import { Dice } from "./random.ts";

/** Pictures are drawn this many times larger and shrunk: fine patterns must not flicker. */
const oversampling = 2;

/** Tone of the film: what cameras do to light. */
interface Film {
  exposure: number;
  gamma: number;
  contrast: number;
  saturation: number;
  vignette: number;
  /** Pixels of the finished picture. */
  softness: number;
  sharpening: number;
}

const randomFilm = (d: Dice): Film => ({
  exposure: d.range(0.75, 1.25),
  gamma: d.range(0.85, 1.2),
  contrast: d.range(0.85, 1.25),
  saturation: d.range(0.7, 1.25),
  vignette: d.chance(0.3) ? d.range(0, 0.4) : 0,
  softness: d.chance(0.3) ? d.range(0, 0.6) : 0,
  sharpening: d.chance(0.3) ? d.range(0, 0.5) : 0,
});

function develop(image: RgbImage, film: Film): RgbImage {
  const { width, height, data } = image;
  const n = width * height;
  const curve = Float32Array.from({ length: 256 }, (_, i) => {
    const x = Math.min(1, film.exposure * (i / 255)) ** film.gamma;
    return 255 * Math.max(0, Math.min(1, 0.5 + (x - 0.5) * film.contrast));
  });
  let planes: Float32Array[] = [0, 1, 2].map((c) => Float32Array.from({ length: n }, (_, i) => curve[data[3 * i + c]]));
  const size = { width, height };
  if (film.softness > 0.15) planes = planes.map((p) => gaussianBlur(p, size, 5, film.softness));
  if (film.sharpening > 0.05) {
    planes = planes.map((p) => {
      const soft = gaussianBlur(p, size, 5, 1);
      return p.map((x, i) => x + film.sharpening * (x - soft[i]));
    });
  }
  const out = new Uint8Array(3 * n);
  for (let i = 0; i < n; i++) {
    const grey = 0.299 * planes[0][i] + 0.587 * planes[1][i] + 0.114 * planes[2][i];
    const [u, v] = [(i % width) / width - 0.5, Math.floor(i / width) / height - 0.5];
    const shade = 1 - film.vignette * 2 * (u * u + v * v);
    for (let c = 0; c < 3; c++)
      out[3 * i + c] = Math.max(0, Math.min(255, Math.round(shade * (grey + film.saturation * (planes[c][i] - grey)))));
  }
  return { width, height, data: out };
}

/** One made-up person in their place, performing. */
export class Person {
  readonly look: Look;
  /** Side of the finished pictures. */
  readonly size: number;
  /** Undressed, as a fit would find it. Of the finished pictures. */
  readonly camera: MotionCamera;
  readonly motion: Motion;
  private readonly dressed: Dressed;
  private readonly light: Light;
  private readonly film: Film;
  private readonly folds: readonly number[];
  /** Metres around a point that are looked at, and how dark it is where all of that shuts it in. */
  private readonly shadows: readonly { radius: number; strength: number }[];
  private readonly background: RgbImage;
  private readonly foreground: Uint8Array | null;
  private readonly poser: Poser;
  /** By the side of what they draw. */
  private readonly conditions = new Map<number, ConditionRenderer>();
  private readonly raster: Rasteriser;

  /**
   * @param seed another seed, another person
   * @param size of the finished pictures, pixels
   * @param frames length of their performance
   * @param fps frames a second of it; low, and frames lie far apart
   */
  constructor(seed: number, size: number, frames: number, fps: number) {
    const d = new Dice(seed);
    this.size = size;
    this.look = randomLook(d);
    this.dressed = dress(this.look);
    this.light = randomLight(d);
    this.film = randomFilm(d);
    this.folds = Array.from({ length: 4 }, () => d.range(0, 2 * Math.PI));
    const large = size * oversampling;
    this.background = randomBackdrop(d, large, toByte);
    this.foreground = randomForeground(d, large, toByte);
    this.camera = randomCamera(d, size);
    const depth = d.range(0.5, 3);
    this.shadows = [
      { radius: 0.015, strength: depth },
      { radius: 0.06, strength: depth * d.range(0.2, 0.7) },
    ];
    this.motion = perform(d, frames, fps, this.look.betas);
    this.motion.camera = this.camera;
    this.poser = new Poser(this.dressed.data);
    this.raster = new Rasteriser(mouth().faces);
  }

  /** The picture of a frame. */
  picture(frame: number): RgbImage {
    const k = oversampling;
    const { camera } = this;
    const large = {
      ...camera,
      width: camera.width * k,
      height: camera.height * k,
      focal: camera.focal * k,
      cx: camera.cx * k,
      cy: camera.cy * k,
    };
    const image = this.raster.render(mouth().withMouth(this.poser.pose(this.motion, frame).vertices), large, {
      background: this.background.data,
      shader: personShader(this.dressed, this.light, this.look.top.foldFrequency, this.folds),
    });
    this.shadow(image, large);
    const over = this.foreground;
    if (over) for (let i = 0; i < over.length; i += 4) if (over[i + 3] > 0) image.data.set(over.subarray(i, i + 3), (i / 4) * 3);
    return develop(resizePil(image, this.size, this.size, "bilinear"), this.film);
  }

  /** Darkens what is shut in: little light falls between fingers and beside an arm. */
  private shadow({ data }: RgbImage, camera: MotionCamera): void {
    const nearest = this.raster.nearest();
    const depth = new Float32Array(nearest.length);
    for (const { radius, strength } of this.shadows)
      ambientOcclusion(nearest, camera, radius).forEach((shut, p) => (depth[p] += strength * shut));
    depth.forEach((x, p) => {
      if (x === 0) return;
      const k = Math.exp(-x / 2.2); // of bytes, not of light
      for (let c = 0; c < 3; c++) data[3 * p + c] = Math.round(k * data[3 * p + c]);
    });
  }

  /** The mesh render that goes with it, `size` pixels a side, in the style of the preset that is trained on made-up people. */
  condition(frame: number, size = this.size): RgbImage {
    let renderer = this.conditions.get(size);
    if (!renderer) {
      renderer = new ConditionRenderer("mannequin", this.camera, size, presets.mini.conditionStyle);
      this.conditions.set(size, renderer);
    }
    return renderer.render(this.motion, frame);
  }

  dispose(): void {
    this.poser.dispose();
    for (const renderer of this.conditions.values()) renderer.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** From a head and shoulders to hands on a desk; the face in the upper half. */
function randomCamera(d: Dice, size: number): MotionCamera {
  const perMetre = d.range(0.72, 1.35) * size;
  const distance = d.chance(0.5) ? d.range(6, 11) : d.range(1.6, 5);
  // Where the head's middle is to be seen; it is 1.07 m above the origin of the posed mesh, about.
  const [x, y] = [size * (0.5 + d.normal(0, 0.07)), size * d.range(0.2, 0.36)];
  return {
    width: size,
    height: size,
    focal: perMetre * distance,
    cx: size / 2,
    cy: size / 2,
    transl: [(x - size / 2) / perMetre, (y - size / 2) / perMetre + 1.07, distance],
  };
}
