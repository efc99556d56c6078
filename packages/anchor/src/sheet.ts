/** Contact sheets: rows of pictures side by side. */
import { blankImage, paste, resizePil, writePng, type RgbImage } from "@make-your-anchor/media";

/** Writes rows of pictures, each `cell` pixels square, with a thin gap, as one PNG. */
export async function writeSheet(path: string, rows: readonly (readonly RgbImage[])[], cell: number): Promise<void> {
  const gap = 4;
  const columns = Math.max(...rows.map((r) => r.length));
  const sheet = blankImage(columns * (cell + gap) - gap, rows.length * (cell + gap) - gap);
  rows.forEach((row, y) =>
    row.forEach((image, x) =>
      paste(
        sheet,
        image.width === cell && image.height === cell ? image : resizePil(image, cell, cell, "bicubic"),
        x * (cell + gap),
        y * (cell + gap),
      ),
    ),
  );
  await writePng(path, sheet);
}

/** `a` and `b` mixed half and half. */
export const mix = (a: RgbImage, b: RgbImage, share = 0.5): RgbImage => ({
  ...a,
  data: a.data.map((v, i) => v * (1 - share) + b.data[i] * share),
});
