/** Learning-rate factors over training progress. */

/**
 * Linear rise over `warmup`, then half a cosine down to `floor`; `progress` and `warmup` are shares of the whole (0..1), which
 * may be a number of steps or a span of time.
 */
export const cosine =
  (warmup = 0.02, floor = 0.02) =>
  (progress: number): number => {
    if (progress < warmup) return Math.max(progress / warmup, 1e-3);
    const x = Math.min(1, (progress - warmup) / (1 - warmup));
    return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * x));
  };
