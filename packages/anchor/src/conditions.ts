/** Condition frames: the posed mesh, shaded, on black. */
import { Poser, Rasteriser, type Motion, type MotionCamera, type RasterOptions } from "@make-your-anchor/body";
import type { RgbImage } from "@make-your-anchor/media";
import { bodyModel } from "./body-models.ts";

/** Draws a motion's frames with a body model, seen by a camera, at a size of its own. */
export class ConditionRenderer {
  private readonly poser: Poser;
  private readonly raster: Rasteriser;
  /** At this renderer's size. */
  readonly camera: MotionCamera;

  constructor(bodyModelName: string, camera: MotionCamera, size: number) {
    const data = bodyModel(bodyModelName);
    this.poser = new Poser(data);
    this.raster = new Rasteriser(data.faces);
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
    return this.raster.render(this.poser.pose(motion, frame, options.betas).vertices, this.camera, options);
  }
  joints(motion: Motion, frame: number, betas?: Float32Array): Float32Array {
    return this.poser.pose(motion, frame, betas).joints;
  }
  dispose(): void {
    this.poser.dispose();
  }
}
