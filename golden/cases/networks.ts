/** Networks alone: UNet, ControlNet, their forms over frames, VAE, CLIP. */
import { fromData, noGrad, scope, type Tensor } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPVisionModel,
  clipCrop,
  clipPixels,
  ControlNetModel,
  samplePosterior,
  timestepFeatures,
  UNet2DConditionModel,
  UNet3DConditionModel,
} from "@make-your-anchor/diffusion";
import { readImage } from "@make-your-anchor/media";
import type { GoldenCase } from "../case.ts";

/** `[n]` timesteps on the case's device. */
const times = (g: GoldenCase, values: readonly number[]): Tensor =>
  fromData(BigInt64Array.from(values, BigInt), [values.length], { device: g.arithmetic.device });
/** Bytes as 0..1, in the case's dtype. */
export const unit = (g: GoldenCase, bytes: Tensor): Tensor => bytes.to("float32").div(255).to(g.arithmetic.dtype);
/** Where a case's models go. */
export const onto = ({ arithmetic: { device, dtype } }: GoldenCase) => ({ device, dtype });

export const unet2d = (g: GoldenCase): void =>
  noGrad(() => {
    using unet = UNet2DConditionModel.fromPretrained(g.model("unet"), onto(g));
    const x = g.input("sample");
    const context = g.input("encoder_hidden_states");
    for (const name of g.outputNames) {
      const t = /^t(\d+)$/.exec(name)?.[1];
      if (t) g.check(name, unet.forward(x, times(g, Array<number>(x.size(0)).fill(Number(t))), context));
    }
    g.check("t_batch", unet.forward(x, g.input("timesteps"), context));
    const odd = g.input("sample_odd");
    const n = odd.size(0);
    const t = Number(/timestep (\d+)/.exec(g.json.outputs.odd_size.meaning as string)?.[1] ?? 250);
    g.check("odd_size", unet.forward(odd, times(g, Array<number>(n).fill(t)), context.narrow(0, 0, n)));
    const c = unet.config;
    g.check("time_proj", timestepFeatures(g.input("timesteps"), c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift));
    g.check("time_embedding", unet.embedTime(g.input("timesteps")));
  });

export const controlnet = (g: GoldenCase): void =>
  noGrad(() => {
    using net = ControlNetModel.fromPretrained(g.model("controlnet"), onto(g));
    using unet = UNet2DConditionModel.fromPretrained(g.model("unet"), onto(g));
    const condition = unit(g, g.input("controlnet_cond_u8"));
    const [sample, t, context] = [g.input("sample"), g.input("timesteps"), g.input("encoder_hidden_states")];
    g.check("cond_embedding", net.condEmbedding.forward(condition));
    const scales = new Set(g.outputNames.flatMap((n) => /^scale([\d.]+?)\.(?:mid|down|unet)/.exec(n)?.[1] ?? []));
    for (const scale of scales) {
      const residuals = net.forward(sample, t, context, condition, { scale: Number(scale) });
      residuals.down.forEach((r, i) => g.check(`scale${scale}.down.${i}`, r));
      g.check(`scale${scale}.mid`, residuals.mid);
      g.check(`scale${scale}.unet_output`, unet.forward(sample, t, context, residuals));
    }
  });

export const unet3d = (g: GoldenCase): void =>
  noGrad(() => {
    using net = ControlNetModel.fromPretrained(g.model("controlnet"), onto(g));
    using unet = UNet3DConditionModel.fromPretrained(g.model("unet"), onto(g));
    const [b, , frames] = g.input("sample").shape;
    const fold = (t: Tensor) => t.transpose(1, 2).reshape([b * frames, t.size(1), t.size(3), t.size(4)]);
    const unfold = (t: Tensor) => t.reshape([b, frames, ...t.shape.slice(1)]).transpose(1, 2);
    const t = times(g, Array<number>(b).fill(g.input("timestep").item()));
    const sample = fold(g.input("sample"));
    const context = g.input("encoder_hidden_states");
    const scale = Number(/conditioning_scale ([\d.]+\d)/.exec(g.json.outputs.mid.meaning as string)?.[1] ?? 2);
    const residuals = net.forward(sample, t, context, fold(unit(g, g.input("controlnet_cond_u8"))), { scale, frames });
    residuals.down.forEach((r, i) => g.check(`down.${i}`, unfold(r), "residuals"));
    g.check("mid", unfold(residuals.mid), "residuals");
    g.check("unet_no_residuals", unfold(unet.forwardFrames(sample, frames, t, context)));
    g.check("unet_with_residuals", unfold(unet.forwardFrames(sample, frames, t, context, residuals)));
    const apart = unet.forwardFrames(sample, frames, t, context, residuals, { aliased: false });
    g.check("unet_with_residuals_not_aliased", unfold(apart));
  });

export const vae = (g: GoldenCase): void =>
  noGrad(() => {
    // The same weights under new and old names.
    for (const [name, remark] of [
      ["vae", ""],
      ["vae_legacy", " (old names)"],
    ] as const) {
      using model = AutoencoderKL.fromPretrained(g.model(name), onto(g));
      const x = g.input("image_u8").to("float32").div(127.5).sub(1).to(g.arithmetic.dtype);
      const posterior = model.encode(x);
      const noise = g.input("posterior_noise");
      const results: readonly (readonly [string, Tensor, string])[] = [
        ["moments", model.moments(x), "moments"],
        ["mean", posterior.mean, "mean"],
        ["logvar", posterior.logvar, "moments"],
        ["std", posterior.logvar.mul(0.5).exp(), "moments"],
        ["sample", samplePosterior(posterior, noise), "moments"],
        ["decoded", model.decode(g.input("latent")), "decoded"],
      ];
      for (const [output, got, pattern] of results) {
        g.check(output, got, pattern);
        g.results.at(-1)!.tensor += remark;
      }
      g.expect(`scaling_factor${remark}`, model.config.scaling_factor === 0.18215, `got ${model.config.scaling_factor}, expected 0.18215`);
    }
  });

export async function clipVision(g: GoldenCase): Promise<void> {
  const files = g.json.images as string[];
  const names = files.map((f) => f.replace(/\.\w+$/, ""));
  const images = await Promise.all(files.map((f) => readImage(g.path(f))));
  images.forEach((image, i) => g.check(`${names[i]}.crop_u8`, clipCrop(image).data));
  scope(() =>
    noGrad(() => {
      const pixels = clipPixels(images);
      names.forEach((name, i) => {
        // Every few pixels of the whole.
        const stride = Math.ceil(pixels.size(2) / g.output(`${name}.pixel_values_sample`).size(1));
        g.check(`${name}.pixel_values_sample`, pixels.select(0, i).slice(1, 0, null, stride).slice(2, 0, null, stride));
      });
      using model = CLIPVisionModel.fromPretrained(g.model("image_encoder"), onto(g));
      const { lastHiddenState, pooled } = model.forward(pixels.to(g.arithmetic.device).to(g.arithmetic.dtype));
      g.check("last_hidden_state", lastHiddenState);
      g.check("pooler_output", pooled, "last_hidden_state");
    }),
  );
}

export const clipText = (g: GoldenCase): void =>
  noGrad(() => {
    using model = CLIPTextModel.fromPretrained(g.model("text_encoder"), onto(g));
    for (const output of g.outputNames) g.check(output, model.forward(g.input(output.replace("last_hidden_state", "input_ids"))));
  });
