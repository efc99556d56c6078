/** Samplers against a case whose answer is known: data that are normally distributed, for which the best model is a formula. */
import { describe, expect, it } from "vitest";
import { Generator, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import { alphasCumprod, createSampler, schedulerDefaults, startOf, type Sampler, type SamplerName, type SamplerState } from "../index.ts";

/** Deviation of the data. */
const spread = 0.5;
const alphas = alphasCumprod(schedulerDefaults);
/** The best guess of the noise in a sample of variance ᾱ·spread² + 1 − ᾱ. */
const predict = (x: Tensor, t: number): Tensor => x.mul(Math.sqrt(1 - alphas[t]) / (alphas[t] * spread ** 2 + 1 - alphas[t]));

function run(sampler: Sampler, start: Tensor, noise?: (i: number) => Tensor, steps = sampler.timesteps.length): Float64Array {
  return scope(() =>
    noGrad(() => {
      let at: { sample: Tensor; state: SamplerState } = { sample: start, state: [] };
      for (let i = 0; i < steps; i++) at = sampler.step(i, predict(at.sample, sampler.timesteps[i]), at.sample, at.state, noise?.(i));
      return Float64Array.from(at.sample.to("float64").data() as Float64Array);
    }),
  );
}
const deviation = (x: Float64Array): number => Math.sqrt(x.reduce((s, v) => s + v * v, 0) / x.length);
/** Where the deterministic flow takes a deviation of the first timestep's noise. */
const exact = (from: number, to: number): number => {
  const at = (t: number) => Math.sqrt(alphas[t] * spread ** 2 + 1 - alphas[t]);
  return at(to) / at(from);
};

describe("samplers on normally distributed data", () => {
  /** How far from the flow after seven tenths of the steps: the last ones are as large however many there are. */
  const error = (name: SamplerName, steps: number): number =>
    scope(() => {
      using g = new Generator(3);
      const x = g.randn([1]).to("float64");
      const sampler = createSampler(name, { timestep_spacing: "leading", steps_offset: 0 }, steps);
      const some = Math.floor(0.7 * steps);
      return Math.abs(run(sampler, x, undefined, some)[0] / x.item() - exact(sampler.timesteps[0], sampler.timesteps[some]));
    });

  it.each([
    ["ddim", 1],
    ["dpmsolver++", 2],
    ["unipc", 3], // second order, and its corrector adds one
  ] as const)("%s is of order %i", (name, order) => {
    expect(error(name, 20)).toBeLessThan(0.02);
    for (const steps of [20, 40, 80]) {
      const gain = Math.log2(error(name, steps) / error(name, 2 * steps));
      expect(gain).toBeGreaterThan(order - 0.2);
      expect(gain).toBeLessThan(order + 0.3);
    }
  });

  it.each([
    ["ddpm", undefined],
    ["ddim", 1],
  ] as const)("%s with noise gives the data's deviation", (name, eta) => {
    using g = new Generator(5);
    const sampler = createSampler(name, {}, 200, { eta });
    const got = deviation(scope(() => run(sampler, g.randn([20_000]), () => g.randn([20_000]))));
    expect(got).toBeGreaterThan(spread * 0.95);
    expect(got).toBeLessThan(spread * 1.05);
  });

  it("ddim with eta 1 takes ddpm's steps", () =>
    noGrad(() =>
      scope(() => {
        using g = new Generator(7);
        const [x, output, noise] = [g.randn([50]), g.randn([50]), g.randn([50])];
        const [a, b] = [
          createSampler("ddpm", { set_alpha_to_one: true }, 25),
          createSampler("ddim", { set_alpha_to_one: true }, 25, { eta: 1 }),
        ];
        for (const i of [0, 10, 23]) {
          const [p, q] = [a, b].map((s) => s.step(i, output, x, [], noise).sample.floats());
          p.forEach((v, k) => expect(v).toBeCloseTo(q[k], 4));
        }
      }),
    ));

  it("what cannot work is said", () => {
    const zero = { rescale_betas_zero_snr: true, timestep_spacing: "trailing" } as const;
    expect(() => createSampler("unipc", zero, 10)).toThrow(/cannot start from pure noise \(zero terminal SNR\): take ddim or ddpm/);
    expect(() => createSampler("dpmsolver++", zero, 10)).toThrow(/take ddim or ddpm/);
    expect(() => createSampler("unipc", {}, 10, { eta: 0.5 })).toThrow(/eta belongs to ddim/);
    expect(() => createSampler("ddim", {}, 10, { eta: 2 })).toThrow(/expected 0 to 1, got 2/);
    expect(() => createSampler("ddim", {}, 0)).toThrow(/expected 1 to 1000, got 0/);
    expect(() => createSampler("euler" as SamplerName, {}, 10)).toThrow(/expected one of ddim, ddpm, unipc, dpmsolver\+\+, got "euler"/);
    const ddpm = createSampler("ddpm", {}, 10);
    using g = new Generator(1);
    expect(() => scope(() => ddpm.step(0, g.randn([2]), g.randn([2]), []))).toThrow(/DDPM needs noise/);
  });
});

it("starts from noise, and from its mean where one step is taken from pure noise", () => {
  scope(() => {
    using g = new Generator(1);
    const noise = g.randn([1, 2, 3, 3]);
    const pure = { rescale_betas_zero_snr: true, timestep_spacing: "trailing", prediction_type: "v_prediction" } as const;
    const start = (config: object, steps: number) => startOf(createSampler("ddim", config, steps), config, noise);
    expect(
      start(pure, 1)
        .floats()
        .every((v) => v === 0),
    ).toBe(true);
    expect(start(pure, 1).shape).toEqual(noise.shape);
    for (const [config, steps] of [
      [pure, 2],
      [{ ...pure, rescale_betas_zero_snr: false }, 1],
      [{ ...pure, timestep_spacing: "leading" }, 1], // its one step is of the least noise
      [{}, 1],
    ] as const)
      expect(start(config, steps), JSON.stringify([config, steps])).toBe(noise);
  });
});
