/** Noise schedules, samplers, windows. */
import { readFileSync } from "node:fs";
import { noGrad, type Tensor } from "@make-your-anchor/torch";
import {
  betasOf,
  DDIMScheduler,
  DDPMScheduler,
  keyFrameWindows,
  overlapWindows,
  readConfig,
  schedulerDefaults,
  type SamplerState,
  UniPCMultistepScheduler,
} from "@make-your-anchor/diffusion";
import type { GoldenCase } from "../case.ts";

const flat = (list: readonly Tensor[]): Float32Array => {
  const parts = list.map((t) => t.floats());
  const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  parts.reduce((at, p) => (out.set(p, at), at + p.length), 0);
  return out;
};

export const schedulers = (g: GoldenCase): void =>
  noGrad(() => {
    const config = readConfig(g.path(g.json.scheduler_config as string));
    const outputs = g.input("model_outputs");
    const steps = outputs.size(0);
    g.check("betas", betasOf({ ...schedulerDefaults, ...config }));
    g.check("alphas_cumprod", new DDIMScheduler(config).alphasCumprod);
    for (const name of g.outputNames) {
      const [sampler, a, b] = name.split(/\.(?!\d+\.)/);
      if (sampler === "ddim" && a === "timesteps") g.check(name, new DDIMScheduler(config).timesteps(Number(b)));
      else if (sampler === "ddim" && name.endsWith(".samples")) {
        const { prediction, eta } = /^ddim\.(?<prediction>\w+)\.eta(?<eta>[\d.]+)\.samples$/.exec(name)!.groups!;
        const s = new DDIMScheduler({ ...config, prediction_type: prediction as "epsilon" });
        let x = g.input("initial_sample");
        const [samples, cleans]: [Tensor[], Tensor[]] = [[], []];
        s.timesteps(steps).forEach((t, i) => {
          const noise = g.input("variance_noise").select(0, i);
          const { previous, clean } = s.step(outputs.select(0, i), t, x, steps, { eta: Number(eta), noise });
          samples.push(previous);
          cleans.push(clean);
          x = previous;
        });
        g.check(name, flat(samples));
        const clean = name.replace(".samples", ".pred_original");
        if (g.hasOutput(clean)) g.check(clean, flat(cleans));
      } else if (sampler === "unipc") {
        const { spacing } = /\b(?<spacing>linspace|leading|trailing)\b/.exec(name)!.groups!;
        const prediction = /v_prediction|epsilon|sample(?=\.)/.exec(name)?.[0] ?? "epsilon";
        const s = new UniPCMultistepScheduler(
          { ...config, prediction_type: prediction as "epsilon", timestep_spacing: spacing as "linspace" },
          steps,
        );
        if (name.endsWith(".timesteps")) g.check(name, s.timesteps);
        else if (name.endsWith(".sigmas")) g.check(name, s.sigmas);
        else {
          let at: { sample: Tensor; state: SamplerState } = { sample: g.input("initial_sample"), state: [] };
          const samples = s.timesteps.map((_, i) => (at = s.step(i, outputs.select(0, i), at.sample, at.state)).sample);
          g.check(name, flat(samples));
        }
      }
    }
    const ddpm = new DDPMScheduler(config);
    const t = [...g.input("ddpm.timesteps").data()].map(Number);
    g.check("ddpm.add_noise", ddpm.addNoise(g.input("ddpm.latents"), g.input("ddpm.noise"), t));
    g.check("ddpm.get_velocity", ddpm.getVelocity(g.input("ddpm.latents"), g.input("ddpm.noise"), t));
  });

interface WindowsJson {
  get_overlap_slide_window_indices: { video_length: number; window_size: number; window_overlap: number; windows: number[][] }[];
  get_slide_window_indices: { video_length: number; window_size: number; key_frame_indices: number[]; inter_frame_list: number[][] }[];
}

export function windows(g: GoldenCase): void {
  const data = JSON.parse(readFileSync(g.path(g.json.data as string), "utf8")) as WindowsJson;
  const same = (name: string, got: unknown, wanted: unknown) =>
    g.expect(name, JSON.stringify(got) === JSON.stringify(wanted), `got ${JSON.stringify(got)}, expected ${JSON.stringify(wanted)}`);
  for (const c of data.get_overlap_slide_window_indices) {
    const got = overlapWindows(c.video_length, c.window_size, c.window_overlap);
    const indices = got.map(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i));
    same(`overlap_${c.video_length}_${c.window_size}_${c.window_overlap}`, indices, c.windows);
  }
  for (const c of data.get_slide_window_indices) {
    const { keyFrames, between } = keyFrameWindows(c.video_length, c.window_size);
    same(`slide_${c.video_length}_${c.window_size}`, [keyFrames, between], [c.key_frame_indices, c.inter_frame_list]);
  }
}
