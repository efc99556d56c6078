import { expect, test } from "vitest";
import { DDPMScheduler } from "../schedulers/ddpm.ts";
import { minSnrWeights } from "./min-snr.ts";

test("min-SNR weights by the paper's formulas", () => {
  const timesteps = [0, 200, 500, 999];
  for (const prediction_type of ["epsilon", "v_prediction", "sample"] as const) {
    const s = new DDPMScheduler({ prediction_type });
    const snr = timesteps.map((t) => s.alphasCumprod[t] / (1 - s.alphasCumprod[t]));
    expect(snr[0]).toBeGreaterThan(5);
    expect(snr[3]).toBeLessThan(5);
    const wanted = snr.map((r) => {
      const w = Math.min(r, 5); // of the error of the clean sample
      return { epsilon: w / r, v_prediction: w / (r + 1), sample: w }[prediction_type];
    });
    minSnrWeights(s, timesteps, 5).forEach((w, i) => expect(w).toBeCloseTo(wanted[i], 6));
  }
});

test("no signal at all counts nothing for the velocity", () => {
  const s = new DDPMScheduler({ prediction_type: "v_prediction", rescale_betas_zero_snr: true });
  expect(minSnrWeights(s, [999], 5)[0]).toBeCloseTo(0, 6);
});
