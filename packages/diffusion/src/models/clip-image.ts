/** Pictures as CLIP wants them: shortest edge to `size` by PIL's bicubic, centre crop, normalised. */
import { fromData, type Tensor } from "@make-your-anchor/torch";
import { crop, resizePil, type RgbImage } from "@make-your-anchor/media";

const mean = [0.48145466, 0.4578275, 0.40821073];
const std = [0.26862954, 0.26130258, 0.27577711];

export function clipCrop(image: RgbImage, size = 224): RgbImage {
  const short = Math.min(image.width, image.height);
  const long = Math.trunc((size * Math.max(image.width, image.height)) / short);
  const [w, h] = image.width <= image.height ? [size, long] : [long, size];
  const resized = resizePil(image, w, h, "bicubic");
  return crop(resized, (w - size) >> 1, (h - size) >> 1, size, size);
}

/** Pictures → `[B, 3, size, size]` float32. */
export function clipPixels(images: readonly RgbImage[], size = 224): Tensor {
  const out = new Float32Array(images.length * 3 * size * size);
  images.forEach((image, b) => {
    const { data } = clipCrop(image, size);
    for (let c = 0; c < 3; c++) {
      const plane = (b * 3 + c) * size * size;
      for (let i = 0; i < size * size; i++) out[plane + i] = (data[3 * i + c] / 255 - mean[c]) / std[c];
    }
  });
  return fromData(out, [images.length, 3, size, size]);
}
