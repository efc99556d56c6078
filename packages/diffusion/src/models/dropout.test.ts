import { expect, test } from "vitest";
import { backward, backwardCheckpointed, Generator, liveTensors, noGrad, ones, scope, segment, type Tensor } from "@make-your-anchor/torch";
import { ControlNetModel, DDPMScheduler, denoisingLoss, Dropout, UNet2DConditionModel } from "../index.ts";

const [first, second] = [{}, {}];
const values = (d: Dropout, count: number, at: object = first) => scope(() => Array.from(d.apply(ones([count, 4, 16, 16]), at).floats()));

test("a share of the values is left out and the others make up for it", () => {
  const before = liveTensors();
  const made = values(new Dropout(0.25, [1, 2]), 2);
  expect(liveTensors()).toBe(before);
  expect(new Set(made)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
  const share = made.filter((v) => v === 0).length / made.length;
  expect(Math.abs(share - 0.25)).toBeLessThan(0.04);
  expect(values(new Dropout(0, [1]), 1)).toEqual(new Array(1024).fill(1));
});

test("a sample loses the same whatever it is computed beside and however often; every layer others", () => {
  const both = values(new Dropout(0.5, [7, 9]), 2);
  expect(values(new Dropout(0.5, [9]), 1)).toEqual(both.slice(1024));
  expect(both.slice(0, 1024)).not.toEqual(both.slice(1024));
  const d = new Dropout(0.5, [7]);
  const [one, other, again] = [values(d, 1), values(d, 1, second), values(d, 1)];
  expect(again).toEqual(one);
  expect(other).not.toEqual(one);
});

test("what does not fit is refused", () => {
  for (const rate of [-0.1, 1, Number.NaN])
    expect(() => new Dropout(rate, [1])).toThrow(/dropout: expected 0 or more and less than 1, got/);
  expect(() => values(new Dropout(0.5, [1, 2, 3]), 2)).toThrow(/dropout: expected 3 samples, got 2/);
});

test("in UNet and ControlNet it changes a batch's loss, and with checkpoints the gradients are the same", () => {
  const blocks = { block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, cross_attention_dim: 8, attention_head_dim: 2 };
  const down = { ...blocks, in_channels: 2, down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"] };
  using unet = new UNet2DConditionModel({ ...down, out_channels: 2, up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"] });
  using controlnet = new ControlNetModel({ ...down, conditioning_embedding_out_channels: [4, 8] });
  using g = new Generator(5);
  for (const model of [unet, controlnet]) model.initialize(g);
  // Zero convolutions would hide what the ControlNet loses.
  noGrad(() => scope(() => controlnet.parameters().forEach((p) => void p.value.detach().add_(g.randn(p.shape).mul(0.05)))));
  scope(() => {
    const batch = {
      latents: g.randn([2, 2, 8, 8]),
      noise: g.randn([2, 2, 8, 8]),
      timesteps: [100, 900],
      context: g.randn([2, 1, 8]),
      condition: g.rand([2, 3, 16, 16]),
    };
    const models = { unet, controlnet, scheduler: new DDPMScheduler() };
    const trained = [...unet.parameters(), ...controlnet.parameters()];
    for (const p of trained) p.value.requiresGrad_();
    const loss = (seeds?: number[]) => denoisingLoss(models, { ...batch, dropout: seeds && new Dropout(0.3, seeds) });
    const gradients = (run: () => void): number[] => {
      for (const p of trained) p.value.grad?.zero_();
      run();
      return trained.flatMap((p) => Array.from(p.value.grad?.floats() ?? []));
    };
    expect(loss([1, 2]).item()).not.toBe(loss().item());
    expect(loss([1, 2]).item()).toBe(loss([1, 2]).item());
    const plain = gradients(() => backward(loss([1, 2])));
    const checkpointed = gradients(() => backwardCheckpointed(() => segment([loss([1, 2])], ([l]: readonly Tensor[]) => l.mul(1))));
    expect(checkpointed).toHaveLength(plain.length);
    plain.forEach((v, i) => expect(checkpointed[i]).toBeCloseTo(v, 5));
  });
});
