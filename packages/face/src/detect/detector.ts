/** The default detector: Human (MediaPipe-style models on WebAssembly), in worker threads; it comes with npm and needs no download. */
import { availableParallelism, freemem } from "node:os";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { RgbImage } from "@make-your-anchor/media";
import type { Detection, HandLandmarks } from "./landmarks.ts";

export interface Detector {
  /**
   * Landmarks of every person in the picture, in its pixels.
   * @param options.describe faces get a `descriptor` to tell people apart, at half as much time again; default as the detector was made
   * @param options.hands those seen in the frame before: they are looked for where they were
   * @param options.searchHands whether the whole picture is searched for hands, which takes as long as all the rest; it is, too, where one of `hands` is
   * not to be seen any more. Default: where `hands` are fewer than a person's two
   */
  detect(image: RgbImage, options?: { describe?: boolean; hands?: readonly HandLandmarks[]; searchHands?: boolean }): Promise<Detection>;
  close(): Promise<void>;
}

interface Pending {
  resolve: (d: Detection) => void;
  reject: (e: Error) => void;
}

/** Models and what they need, in each thread. */
const workerBytes = 500 * 2 ** 20;

/**
 * Starts the default detector.
 * @param options.workers pictures looked at side by side; default one a core, at most eight, and no more than half of the free memory holds
 * @param options.describe faces get a `descriptor` where `detect` does not say otherwise; default false
 * @returns with `workers`, how many pictures it looks at side by side
 */
export function createDetector(options: { workers?: number; describe?: boolean } = {}): Detector & { readonly workers: number } {
  const count = options.workers ?? Math.max(1, Math.min(8, availableParallelism(), Math.floor(freemem() / 2 / workerBytes)));
  // The sources' ending, or that of the packages made of them.
  const ending = extname(import.meta.url);
  const workers = Array.from({ length: count }, () => new Worker(new URL(`./detector-worker${ending}`, import.meta.url)));
  const pending: Map<number, Pending>[] = workers.map(() => new Map());
  let next = 0;
  let failed: Error | undefined;
  workers.forEach((worker, i) => {
    worker.on("message", ({ id, detection, error }: { id: number; detection?: Detection; error?: string }) => {
      const p = pending[i].get(id);
      pending[i].delete(id);
      if (detection) p?.resolve(detection);
      else p?.reject(new Error(`the landmark detector failed: ${error}`));
    });
    worker.on("error", (cause) => {
      failed = new Error(`the landmark detector could not run (${cause.message}); install the npm packages again to repair it`, {
        cause,
      });
      for (const p of pending[i].values()) p.reject(failed);
      pending[i].clear();
    });
    worker.unref();
  });
  return {
    workers: count,
    detect(image, { describe = options.describe ?? false, hands = [], searchHands = hands.length < 2 } = {}) {
      if (failed) return Promise.reject(failed);
      const id = next++;
      let least = 0;
      pending.forEach((p, i) => {
        if (p.size < pending[least].size) least = i;
      });
      return new Promise((resolve, reject) => {
        pending[least].set(id, { resolve, reject });
        workers[least].ref();
        workers[least].postMessage({ id, describe, hands, searchHands, width: image.width, height: image.height, data: image.data });
      });
    },
    async close() {
      await Promise.all(workers.map((w) => w.terminate()));
    },
  };
}
