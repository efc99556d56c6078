/** Condition frames: the posed mesh on black. */
import { Poser, Rasteriser, surfaceShader, type Motion, type MotionCamera, type RasterOptions, type Shader } from "@make-your-anchor/body";
import type { RgbImage } from "@make-your-anchor/media";
import { bodyModel } from "./body-models.ts";

/**
 * How condition frames show the mesh: "shaded", lit and of one colour, as the original's and as published weights know it; "surface", every
 * place of the body in a colour of its own.
 */
export const conditionStyles = ["shaded", "surface"] as const;
export type ConditionStyle = (typeof conditionStyles)[number];

/** By body model: the colours take a look at every vertex. */
const surfaceShaders = new Map<string, Shader>();

function shaderOf(bodyModelName: string, style: ConditionStyle): Shader | undefined {
  if (style === "shaded") return undefined;
  let shader = surfaceShaders.get(bodyModelName);
  if (!shader) surfaceShaders.set(bodyModelName, (shader = surfaceShader(bodyModel(bodyModelName))));
  return shader;
}

/** Draws a motion's frames with a body model, seen by a camera, at a size of its own. */
export class ConditionRenderer {
  private readonly poser: Poser;
  private readonly raster: Rasteriser;
  private readonly shader: Shader | undefined;
  /** At this renderer's size. */
  readonly camera: MotionCamera;

  constructor(bodyModelName: string, camera: MotionCamera, size: number, style: ConditionStyle = "shaded") {
    const data = bodyModel(bodyModelName);
    this.poser = new Poser(data);
    this.raster = new Rasteriser(data.faces);
    this.shader = shaderOf(bodyModelName, style);
    const scale = size / Math.max(camera.width, camera.height);
    this.camera = {
      ...camera,
      width: Math.round(camera.width * scale),
      height: Math.round(camera.height * scale),
      focal: camera.focal * scale,
      cx: camera.cx * scale,
      cy: camera.cy * scale,
    };
  }
  render(motion: Motion, frame: number, options: RasterOptions & { betas?: Float32Array } = {}): RgbImage {
    return this.raster.render(this.poser.pose(motion, frame, options.betas).vertices, this.camera, { shader: this.shader, ...options });
  }
  joints(motion: Motion, frame: number, betas?: Float32Array): Float32Array {
    return this.poser.pose(motion, frame, betas).joints;
  }
  dispose(): void {
    this.poser.dispose();
  }
}
