/** Training: losses, gradient norms, and the weights after a few steps. */
import { existsSync, readFileSync } from "node:fs";
import { AdamW, backward, clipGradNorm, loadSafetensors, scope } from "@make-your-anchor/torch";
import { ControlNetModel, DDPMScheduler, denoisingLoss, readConfig, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import type { GoldenCase } from "../case.ts";
import { onto, unit } from "./networks.ts";

export function training(g: GoldenCase): void {
  const c = g.json.config;
  using unet = UNet2DConditionModel.fromPretrained(g.model("unet"), onto(g));
  using controlnet = ControlNetModel.fromPretrained(g.model("controlnet"), onto(g));
  unet.requiresGrad_();
  controlnet.requiresGrad_();
  // Stable Diffusion 1.5's noise schedule, as the case's own text has it.
  const schedule = g.path("../schedulers/scheduler/scheduler_config.json");
  const scheduler = new DDPMScheduler({ ...(existsSync(schedule) ? readConfig(schedule) : {}), prediction_type: c.prediction_type });
  const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
  const optimizer = new AdamW(named, { lr: c.lr, betas: c.betas, eps: c.eps, weightDecay: c.weight_decay });
  const norms = JSON.parse(readFileSync(g.path("grad_norms_step1.json"), "utf8")) as Record<string, any>;
  const inpainting = g.has("mask_latents");
  const losses: number[] = [];
  const total: { unet: number[]; controlnet: number[] } = { unet: [], controlnet: [] };
  for (let step = 0; step < c.steps; step++) {
    scope(() => {
      const at = (name: string) => g.input(name).select(0, step);
      const models = { unet, controlnet, scheduler };
      const batch = {
        latents: at("latents"),
        noise: at("noise"),
        timesteps: [...at("timesteps").data()].map(Number),
        context: at("encoder_hidden_states"),
        condition: unit(g, at("controlnet_cond_u8")),
      };
      const further = inpainting ? { maskLatents: at("mask_latents"), maskedImageLatents: at("masked_image_latents") } : {};
      const loss = denoisingLoss(models, { ...batch, ...further });
      backward(loss);
      losses.push(loss.item());
    });
    if (step === 0) {
      const [got, wanted]: [number[], number[]] = [[], []];
      for (const [name, p] of named) {
        const dot = name.indexOf(".");
        const entry = norms[name.slice(0, dot)]?.[name.slice(dot + 1)] ?? norms[name];
        if (!entry) g.expect(`grad_norm.${name}`, false, "the case has no gradient norm of that name");
        else {
          wanted.push(entry.l2 ?? entry.norm ?? entry[0]);
          got.push(scope(() => p.value.grad!.norm().item()));
        }
      }
      g.compare("grad_norms_step1", got, wanted, g.tolerance("grad_norm"));
    }
    total.unet.push(clipGradNorm(unet.parameters(), Number.POSITIVE_INFINITY));
    total.controlnet.push(clipGradNorm(controlnet.parameters(), c.max_grad_norm));
    optimizer.step();
    optimizer.zeroGrad();
  }
  optimizer.dispose();
  g.check("loss", losses);
  g.check("controlnet_grad_norm", total.controlnet, "grad_norm");
  g.check("unet_grad_norm", total.unet, "grad_norm");

  const t = g.json.tolerance.parameters as { mean_abs: number; "fraction_off_by_more_than_1e-6": number; max_abs: number };
  let [sum, count, off, worst] = [0, 0, 0, 0];
  for (const [model, file] of [
    [unet, `unet_after_step${c.steps}.safetensors`],
    [controlnet, `controlnet_after_step${c.steps}.safetensors`],
  ] as const) {
    const wanted = loadSafetensors(g.path(file));
    for (const [name, p] of model.namedParameters()) {
      scope(() => {
        const a = p.value.detach().to("cpu").floats();
        const b = wanted.get(name)!.floats();
        for (let i = 0; i < a.length; i++) {
          const d = Math.abs(a[i] - b[i]);
          sum += d;
          count++;
          if (d > 1e-6) off++;
          worst = Math.max(worst, d);
        }
      });
    }
    for (const w of wanted.values()) w.dispose();
  }
  const slack = g.arithmetic.slack;
  const judge = (name: string, got: number, limit: number) =>
    g.note(`parameters.${name}`, [count], { atol: limit }, got, got / (limit * slack), `${got}, allowed ${limit * slack}`);
  judge("mean_abs", sum / count, t.mean_abs);
  judge("fraction_off_by_more_than_1e-6", off / count, t["fraction_off_by_more_than_1e-6"]);
  judge("max_abs", worst, t.max_abs);
}
