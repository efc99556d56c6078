/** Masks by a face-parsing network whose weights the user brings, in place of those drawn from landmarks. */
import { fromData, noGrad, scope } from "@make-your-anchor/torch";
import { openWeightsFile } from "@make-your-anchor/diffusion";
import { BiSeNet, maskOfLabels } from "@make-your-anchor/face";
import { blankImage, resizePil, type RgbImage } from "@make-your-anchor/media";

/** Side of the pictures it was trained on. */
const side = 512;
const mean = [0.485, 0.456, 0.406];
const deviation = [0.229, 0.224, 0.225];

export class FaceParser {
  private readonly net: BiSeNet;

  /** @param path face-parsing.PyTorch's `79999_iter.pth`, or its weights as safetensors */
  constructor(path: string, device = "cpu") {
    this.net = new BiSeNet();
    using file = openWeightsFile(path);
    this.net.loadStateDict(file, { what: path, rename: BiSeNet.rename, device });
  }

  /** Classes of an aligned face, `[512, 512]`. */
  labels(image: RgbImage): Uint8Array {
    const { data } = resizePil(image, side, side, "bilinear");
    const n = side * side;
    const planes = new Float32Array(3 * n);
    for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) planes[c * n + i] = (data[3 * i + c] / 255 - mean[c]) / deviation[c];
    return scope(() =>
      noGrad(() => {
        const [scores] = this.net.forward(fromData(planes, [1, 3, side, side], { device: this.net.device }));
        return Uint8Array.from(scores.argmax(1).to("cpu").to("uint8").data(), Number);
      }),
    );
  }
  /** The inpainting mask of an aligned face, of its size: black is painted. */
  mask(image: RgbImage): RgbImage {
    const values = maskOfLabels(this.labels(image), { width: side, height: side });
    const out = blankImage(side, side);
    values.forEach((v, i) => out.data.fill(v, 3 * i, 3 * i + 3));
    return resizePil(out, image.width, image.height, "bilinear");
  }
  dispose(): void {
    this.net.dispose();
  }
  [Symbol.dispose](): void {
    this.net.dispose();
  }
}
