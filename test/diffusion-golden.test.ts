/** The diffusion models, samplers and the training step against numbers computed by diffusers and the original's code. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  AdamW,
  backward,
  clipGradNorm,
  fromData,
  Generator,
  grad,
  loadSafetensors,
  noGrad,
  scope,
  tensor,
  type Tensor,
} from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  bodyLoss,
  CLIPTextModel,
  CLIPVisionModel,
  clipCrop,
  clipPixels,
  ControlNetModel,
  DDIMScheduler,
  DDPMScheduler,
  keyFrameWindows,
  overlapWindows,
  readConfig,
  sampleBody,
  samplePosterior,
  timestepFeatures,
  UniPCMultistepScheduler,
  UNet2DConditionModel,
  UNet3DConditionModel,
} from "@make-your-anchor/diffusion";
import { bytesTruncated, readImage } from "@make-your-anchor/media";
import { GoldenCase } from "./golden-case.ts";
import { settledTensors } from "./live-tensors.ts";

const times = (values: number[]) => fromData(BigInt64Array.from(values, BigInt), [values.length]);
const unit = (u8: Tensor) => u8.to("float32").div(255);

describe("golden", () => {
  it("unet2d", () =>
    noGrad(() => {
      const g = new GoldenCase("unet2d");
      const unet = UNet2DConditionModel.fromPretrained(g.path("unet"));
      const x = g.input("sample");
      const context = g.input("encoder_hidden_states");
      for (const t of [1, 250, 999]) g.expectClose(`t${t}`, unet.forward(x, times([t, t, t]), context));
      g.expectClose("t_batch", unet.forward(x, g.input("timesteps"), context));
      g.expectClose("odd_size", unet.forward(g.input("sample_odd"), times([250]), context.narrow(0, 0, 1)));
      g.expectClose("time_proj", timestepFeatures(g.input("timesteps"), 16));
      g.expectClose("time_embedding", unet.embedTime(g.input("timesteps")));
    }));

  it("controlnet", () =>
    noGrad(() => {
      const g = new GoldenCase("controlnet");
      const net = ControlNetModel.fromPretrained(g.path("controlnet"));
      const unet = UNet2DConditionModel.fromPretrained(g.path("../unet2d/unet"));
      const condition = unit(g.input("controlnet_cond_u8"));
      g.expectClose("cond_embedding", net.condEmbedding.forward(condition));
      for (const scale of [1, 2]) {
        const residuals = net.forward(g.input("sample"), g.input("timesteps"), g.input("encoder_hidden_states"), condition, { scale });
        residuals.down.forEach((t, i) => g.expectClose(`scale${scale}.down.${i}`, t));
        g.expectClose(`scale${scale}.mid`, residuals.mid);
        g.expectClose(
          `scale${scale}.unet_output`,
          unet.forward(g.input("sample"), g.input("timesteps"), g.input("encoder_hidden_states"), residuals),
        );
      }
    }));

  it("unet3d", () =>
    noGrad(() => {
      const g = new GoldenCase("unet3d");
      const net = ControlNetModel.fromPretrained(g.path("../controlnet/controlnet"));
      const unet = UNet3DConditionModel.fromPretrained(g.path("../unet2d/unet"));
      const [b, , frames] = g.input("sample").shape;
      const fold = (t: Tensor) => t.transpose(1, 2).reshape([b * frames, t.size(1), t.size(3), t.size(4)]);
      const unfold = (t: Tensor) => t.reshape([b, frames, ...t.shape.slice(1)]).transpose(1, 2);
      const t = times(Array(b).fill(g.input("timestep").item()));
      const sample = fold(g.input("sample"));
      const context = g.input("encoder_hidden_states");
      const residuals = net.forward(sample, t, context, fold(unit(g.input("controlnet_cond_u8"))), { scale: 2, frames });
      residuals.down.forEach((r, i) => g.expectClose(`down.${i}`, unfold(r), "residuals"));
      g.expectClose("mid", unfold(residuals.mid), "residuals");
      g.expectClose("unet_no_residuals", unfold(unet.forwardFrames(sample, frames, t, context)));
      g.expectClose("unet_with_residuals", unfold(unet.forwardFrames(sample, frames, t, context, residuals)));
      g.expectClose(
        "unet_with_residuals_not_aliased",
        unfold(unet.forwardFrames(sample, frames, t, context, residuals, { aliased: false })),
      );
    }));

  for (const names of ["vae", "vae_legacy_names"]) {
    it(`vae, weights under ${names}`, () =>
      noGrad(() => {
        const g = new GoldenCase("vae");
        const vae = AutoencoderKL.fromPretrained(g.path(names));
        expect(vae.config.scaling_factor).toBe(0.18215);
        const x = g.input("image_u8").to("float32").div(127.5).sub(1);
        g.expectClose("moments", vae.moments(x));
        const posterior = vae.encode(x);
        g.expectClose("mean", posterior.mean);
        g.expectClose("logvar", posterior.logvar, "moments");
        g.expectClose("std", posterior.logvar.mul(0.5).exp(), "moments");
        g.expectClose("sample", samplePosterior(posterior, g.input("posterior_noise")), "moments");
        g.expectClose("decoded", vae.decode(g.input("latent")));
      }));
  }

  it("clip_vision", async () => {
    const g = new GoldenCase("clip_vision");
    const images = [await readImage(g.path("square.png")), await readImage(g.path("wide.png"))];
    images.forEach((image, i) => g.expectClose(`${["square", "wide"][i]}.crop_u8`, clipCrop(image).data));
    noGrad(() => {
      const pixels = clipPixels(images);
      ["square", "wide"].forEach((name, i) =>
        g.expectClose(`${name}.pixel_values_sample`, pixels.select(0, i).slice(1, 0, null, 7).slice(2, 0, null, 7)),
      );
      const { lastHiddenState, pooled } = CLIPVisionModel.fromPretrained(g.path("image_encoder")).forward(pixels);
      g.expectClose("last_hidden_state", lastHiddenState);
      g.expectClose("pooler_output", pooled, "last_hidden_state");
    });
  });

  it("clip_text", () =>
    noGrad(() => {
      const g = new GoldenCase("clip_text");
      const model = CLIPTextModel.fromPretrained(g.path("text_encoder"));
      g.expectClose("last_hidden_state", model.forward(g.input("input_ids")));
      g.expectClose("last_hidden_state_50", model.forward(g.input("input_ids_50")));
    }));

  describe("schedulers", () => {
    const g = new GoldenCase("schedulers");
    const config = readConfig(g.path("scheduler/scheduler_config.json"));
    const steps = 20;

    it("betas and alphas", () => {
      g.expectClose("alphas_cumprod", new DDIMScheduler(config).alphasCumprod);
    });
    it("DDIM timesteps", () => {
      for (const n of [20, 50]) g.expectClose(`ddim.timesteps.${n}`, new DDIMScheduler(config).timesteps(n));
    });
    for (const prediction_type of ["epsilon", "v_prediction"] as const) {
      for (const eta of [0, 0.5]) {
        it(`DDIM ${prediction_type}, eta ${eta}`, () =>
          noGrad(() => {
            const s = new DDIMScheduler({ ...config, prediction_type });
            let x = g.input("initial_sample");
            const samples: Tensor[] = [];
            const cleans: Tensor[] = [];
            s.timesteps(steps).forEach((t, i) => {
              const { previous, clean } = s.step(g.input("model_outputs").select(0, i), t, x, steps, {
                eta,
                noise: g.input("variance_noise").select(0, i),
              });
              samples.push(previous);
              cleans.push(clean);
              x = previous;
            });
            g.expectClose(
              `ddim.${prediction_type}.eta${eta}.samples`,
              samples.flatMap((t) => [...t.floats()]),
            );
            g.expectClose(
              `ddim.${prediction_type}.eta${eta}.pred_original`,
              cleans.flatMap((t) => [...t.floats()]),
            );
          }));
      }
      for (const timestep_spacing of ["linspace", "leading"] as const) {
        it(`UniPC ${prediction_type}, ${timestep_spacing}`, () =>
          noGrad(() => {
            const s = new UniPCMultistepScheduler({ ...config, prediction_type, timestep_spacing }, steps);
            g.expectClose(`unipc.${timestep_spacing}.timesteps`, s.timesteps);
            g.expectClose(`unipc.${timestep_spacing}.sigmas`, s.sigmas);
            let x = g.input("initial_sample");
            const samples = s.timesteps.map((_, i) => (x = s.step(g.input("model_outputs").select(0, i), x)));
            g.expectClose(
              `unipc.${prediction_type}.${timestep_spacing}.samples`,
              samples.flatMap((t) => [...t.floats()]),
            );
          }));
      }
    }
    it("DDPM noising and velocity", () => {
      const s = new DDPMScheduler(config);
      const t = [...g.input("ddpm.timesteps").data()].map(Number);
      g.expectClose("ddpm.add_noise", s.addNoise(g.input("ddpm.latents"), g.input("ddpm.noise"), t));
      g.expectClose("ddpm.get_velocity", s.getVelocity(g.input("ddpm.latents"), g.input("ddpm.noise"), t));
    });
  });

  it("windows", () => {
    const g = new GoldenCase("windows");
    const data = JSON.parse(readFileSync(g.path("windows.json"), "utf8"));
    for (const c of data.get_overlap_slide_window_indices) {
      const got = overlapWindows(c.video_length, c.window_size, c.window_overlap).map(({ from, to }) =>
        Array.from({ length: to - from }, (_, i) => from + i),
      );
      expect(got).toEqual(c.windows);
    }
    for (const c of data.get_slide_window_indices) {
      const { keyFrames, between } = keyFrameWindows(c.video_length, c.window_size);
      expect(keyFrames).toEqual(c.key_frame_indices);
      expect(between).toEqual(c.inter_frame_list);
    }
  });

  it("body_pipeline, and a run that starts in the middle", async () => {
    const g = new GoldenCase("body_pipeline");
    const c = g.json.config;
    const models = {
      unet: UNet3DConditionModel.fromPretrained(g.path("../unet2d/unet")),
      controlnet: ControlNetModel.fromPretrained(g.path("../controlnet/controlnet")),
      vae: AutoencoderKL.fromPretrained(g.path("../vae/vae")),
      scheduler: new DDIMScheduler(readConfig(g.path("../schedulers/scheduler/scheduler_config.json"))),
    };
    const sampling = {
      frames: c.video_length,
      condition: (i: number) => readImage(g.path(`frames/${String(i).padStart(6, "0")}.png`)),
      promptEmbeds: g.input("prompt_embeds"),
      negativePromptEmbeds: g.input("negative_prompt_embeds"),
      noise: g.input("latents"),
      width: c.width,
      height: c.height,
      windowSize: c.window_size,
      windowOverlap: c.window_overlap,
      steps: c.num_inference_steps,
      guidanceScale: c.guidance_scale,
      controlnetConditioningScale: c.controlnet_conditioning_scale,
    };
    const latents: Float32Array[][] = Array.from({ length: c.num_inference_steps }, () => []);
    const before = await settledTensors();
    const frames: Float32Array[] = [];
    const onLatents = (step: number, from: number, t: Tensor) => {
      for (let i = 0; i < t.size(0); i++) latents[step][from + i] = scope(() => t.select(0, i).floats());
    };
    for await (const { index, pixels } of sampleBody(models, { ...sampling, onLatents })) frames[index] = pixels;
    expect(await settledTensors()).toEqual(before);

    const [, channels, , h, w] = g.input("latents").shape;
    latents.forEach((perFrame, step) => {
      const stacked = new Float32Array(channels * c.video_length * h * w); // [C, F, h, w]
      perFrame.forEach((x, f) => {
        for (let k = 0; k < channels; k++) stacked.set(x.subarray(k * h * w, (k + 1) * h * w), (k * c.video_length + f) * h * w);
      });
      g.expectClose(`latents.step${step}`, stacked);
    });
    const plane = c.width * c.height;
    const video = new Float32Array(3 * c.video_length * plane);
    const bytes = new Uint8Array(c.video_length * plane * 3);
    frames.forEach((x, f) => {
      for (let k = 0; k < 3; k++) {
        video.set(x.subarray(k * plane, (k + 1) * plane), (k * c.video_length + f) * plane);
        const u8 = bytesTruncated(x.subarray(k * plane, (k + 1) * plane));
        for (let i = 0; i < plane; i++) bytes[(f * plane + i) * 3 + k] = u8[i];
      }
    });
    g.expectClose("video", video);
    g.expectClose("png_u8", bytes);

    // What was not asked for is not made, and what is made is the same to the last bit.
    for await (const { index, pixels } of sampleBody(models, { ...sampling, firstFrame: 9 })) {
      expect(index).toBeGreaterThanOrEqual(9);
      expect(pixels).toEqual(frames[index]);
    }
  });

  it("train_body: losses, gradient norms and weights after five steps", async () => {
    const g = new GoldenCase("train_body");
    const c = g.json.config;
    const unet = UNet2DConditionModel.fromPretrained(g.path("unet")).requiresGrad_();
    const controlnet = ControlNetModel.fromPretrained(g.path("controlnet")).requiresGrad_();
    const scheduler = new DDPMScheduler(readConfig(new GoldenCase("schedulers").path("scheduler/scheduler_config.json")));
    const named = [...unet.namedParameters("unet."), ...controlnet.namedParameters("controlnet.")];
    const optimizer = new AdamW(named, { lr: c.lr, betas: c.betas, eps: c.eps, weightDecay: c.weight_decay });
    const gradNorms = JSON.parse(readFileSync(g.path("grad_norms_step1.json"), "utf8"));
    const before = await settledTensors();
    const [losses, netNorms, unetNorms] = [[], [], []] as number[][];
    for (let step = 0; step < c.steps; step++) {
      const loss = scope(() => {
        const at = (name: string) => g.input(name).select(0, step);
        const batch = {
          latents: at("latents"),
          noise: at("noise"),
          timesteps: [...at("timesteps").data()].map(Number),
          context: at("encoder_hidden_states"),
          condition: unit(at("controlnet_cond_u8")),
        };
        const l = bodyLoss({ unet, controlnet, scheduler }, batch);
        backward(l);
        return l.item();
      });
      if (step === 0) {
        for (const [name, p] of named) {
          const dot = name.indexOf(".");
          const entry = gradNorms[name.slice(0, dot)]?.[name.slice(dot + 1)] ?? gradNorms[name];
          expect(entry, `no reference for ${name}`).toBeDefined();
          const want = entry.l2 ?? entry.norm ?? entry[0];
          const got = scope(() => p.value.grad!.norm().item());
          expect(Math.abs(got - want), `${name}: gradient norm ${got}, expected ${want}`).toBeLessThanOrEqual(1e-6 + 1e-3 * want);
        }
      }
      losses.push(loss);
      unetNorms.push(clipGradNorm(unet.parameters(), Number.POSITIVE_INFINITY));
      netNorms.push(clipGradNorm(controlnet.parameters(), c.max_grad_norm));
      optimizer.step();
      optimizer.zeroGrad();
    }
    expect(await settledTensors()).toEqual(before);
    g.expectClose("loss", losses);
    g.expectClose("controlnet_grad_norm", netNorms, "grad_norm");
    g.expectClose("unet_grad_norm", unetNorms, "grad_norm");

    let [total, count, off, worst] = [0, 0, 0, 0];
    for (const [model, file] of [
      [unet, "unet_after_step5.safetensors"],
      [controlnet, "controlnet_after_step5.safetensors"],
    ] as const) {
      const wanted = loadSafetensors(g.path(file));
      for (const [name, p] of model.namedParameters()) {
        const a = p.value.detach().floats();
        const b = wanted.get(name)!.floats();
        for (let i = 0; i < a.length; i++) {
          const d = Math.abs(a[i] - b[i]);
          total += d;
          count++;
          if (d > 1e-6) off++;
          worst = Math.max(worst, d);
        }
      }
    }
    const t = g.json.tolerance.parameters;
    expect(total / count).toBeLessThanOrEqual(t.mean_abs);
    expect(off / count).toBeLessThanOrEqual(t["fraction_off_by_more_than_1e-6"]);
    expect(worst).toBeLessThanOrEqual(t.max_abs);
  });
});

describe("what the fixtures cannot see", () => {
  it("norms use the published epsilons", () => {
    const eps = (m: object, path: string): number => path.split(".").reduce((at: any, k) => at[k], m).eps;
    const unet = new UNet2DConditionModel() as any;
    const block = unet.downBlocks.items[0];
    expect(eps(block.resnets.items[0], "norm1")).toBe(1e-5);
    expect(eps(block.resnets.items[0], "norm2")).toBe(1e-5);
    expect(eps(unet, "normOut")).toBe(1e-5);
    expect(eps(block.attentions.items[0], "norm")).toBe(1e-6);
    expect(eps(block.attentions.items[0].blocks.items[0], "norm1")).toBe(1e-5);
    const vae = new AutoencoderKL() as any;
    expect(eps(vae.encoder, "normOut")).toBe(1e-6);
    expect(eps(vae.decoder.midBlock.attentions.items[0], "groupNorm")).toBe(1e-6);
    expect(eps(vae.decoder.midBlock.resnets.items[0], "norm1")).toBe(1e-6);
  });

  it("a ControlNet starts as the identity: its residuals are zero", () =>
    noGrad(() => {
      const config = {
        block_out_channels: [8, 16],
        down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
        norm_num_groups: 4,
        cross_attention_dim: 8,
        attention_head_dim: 2,
      };
      using g = new Generator(1);
      const unet = new UNet2DConditionModel({ ...config, up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"] }).initialize(g);
      const net = new ControlNetModel({ ...config, conditioning_embedding_out_channels: [4, 8] }).initialize(g).copyFrom(unet);
      const { down, mid } = net.forward(g.randn([1, 4, 8, 8]), times([5]), g.randn([1, 3, 8]), g.rand([1, 3, 16, 16]));
      for (const r of [...down, mid]) expect(r.abs().max().item()).toBe(0);
    }));

  it("gradients flow to conditions and context", () => {
    using g = new Generator(2);
    const x = g.randn([2, 3]).requiresGrad_();
    expect([...grad(x.mul(tensor([1, 2, 3])).sum(), [x])[0]!.floats()]).toEqual([1, 2, 3, 1, 2, 3]);
  });
});
