/** What the diffusion fixtures cannot see, and that samplers and training leave no tensors behind. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { fromData, Generator, grad, noGrad, tensor } from "@make-your-anchor/torch";
import { AutoencoderKL, ControlNetModel, sampleBody, UNet2DConditionModel } from "@make-your-anchor/diffusion";
import { GoldenCase } from "../golden/case.ts";
import { bodySetup } from "../golden/cases/pipelines.ts";
import { runCase } from "../golden/run.ts";
import { settledTensors } from "./live-tensors.ts";

const fixture = (name: string) => fileURLToPath(new URL(`./golden/${name}`, import.meta.url));
const times = (values: number[]) => fromData(BigInt64Array.from(values, BigInt), [values.length]);

describe("sampling and training", () => {
  it("a run that starts in the middle gives the same bytes, and asks for nothing it does not need", async () => {
    const g = new GoldenCase(fixture("body_pipeline"));
    const { models, sampling } = bodySetup(g);
    const frames: Float32Array[] = [];
    const before = await settledTensors();
    for await (const { index, pixels } of sampleBody(models, sampling)) frames[index] = pixels;
    expect(await settledTensors()).toEqual(before);
    for await (const { index, pixels } of sampleBody(models, { ...sampling, firstFrame: 9 })) {
      expect(index).toBeGreaterThanOrEqual(9);
      expect(pixels).toEqual(frames[index]);
    }
  });

  it("a UNet that knows no drafts refuses one", async () => {
    const { models, sampling } = bodySetup(new GoldenCase(fixture("body_pipeline")));
    const { width, height } = sampling;
    const draft = () => ({ width, height, data: new Uint8Array(3 * width * height) });
    await expect(sampleBody(models, { ...sampling, draft }).next()).rejects.toThrow(
      /expected in_channels 8 \(one that paints from drafts\), got 4/,
    );
  });

  for (const name of ["body_pipeline", "head_pipeline", "train_body", "train_head"]) {
    it(`${name} leaves no tensors`, async () => {
      const before = await settledTensors();
      expect((await runCase(fixture(name))).status).toBe("passed");
      expect(await settledTensors()).toEqual(before);
    });
  }
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
