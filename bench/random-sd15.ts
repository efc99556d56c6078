/**
 * Random weights of Stable Diffusion 1.5's size in the places where published ones lie: for trying and timing the full size
 * without them. They say nothing about pictures.
 *
 *   npm run random-sd15 -- DIR      writes DIR/hf (to be HF_HOME) and DIR/person/body/{unet,controlnet}: 7 GB, about two minutes
 *   HF_HOME=DIR/hf npm run -s anchor -- create NAME --clip FILE --preset sd15
 *   HF_HOME=DIR/hf npm run -s anchor -- import NAME --weights DIR/person
 *   HF_HOME=DIR/hf npm run -s anchor -- animate NAME --motion FILE --frames 3
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Generator, type Module } from "@make-your-anchor/torch";
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPVisionModel,
  ControlNetModel,
  saveModel,
  schedulerDefaults,
  UNet2DConditionModel,
} from "@make-your-anchor/diffusion";
import { catalogue, type Published } from "@make-your-anchor/anchor/hub";

const [target] = process.argv.slice(2);
if (!target) {
  console.error("usage: npm run random-sd15 -- DIR");
  process.exit(2);
}
const root = resolve(process.env.ANCHOR_CALLER_DIR ?? process.cwd(), target);
const commit = "0".repeat(40);

/** The snapshot folder of a repository that was never pulled. */
function snapshot(entry: Published): string {
  const repo = join(root, "hf", "hub", `models--${entry.repo.replaceAll("/", "--")}`);
  mkdirSync(join(repo, "refs"), { recursive: true });
  writeFileSync(join(repo, "refs", entry.revision), commit);
  return join(repo, "snapshots", commit);
}

function save(folder: string, make: () => Module & { config: object }, weightName?: string): void {
  console.error(folder);
  using g = new Generator(11);
  using model = make().initialize(g);
  saveModel(folder, model, { _class_name: model.constructor.name, ...model.config }, weightName);
}

const sd15 = snapshot(catalogue.sd15);
save(join(sd15, "unet"), () => new UNet2DConditionModel());
save(join(sd15, "vae"), () => new AutoencoderKL());
save(join(sd15, "text_encoder"), () => new CLIPTextModel(), "model.safetensors");
save(snapshot(catalogue["clip-vit-b32"]), () => new CLIPVisionModel(), "model.safetensors");
const person = join(root, "person", "body");
save(join(person, "unet"), () => new UNet2DConditionModel());
save(join(person, "controlnet"), () => new ControlNetModel());

const json = (path: string, value: object) => {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, JSON.stringify(value));
};
json(join(sd15, "scheduler", "scheduler_config.json"), schedulerDefaults);
// Enough of a vocabulary for an empty text.
json(join(sd15, "tokenizer", "vocab.json"), { "<|startoftext|>": 49406, "<|endoftext|>": 49407 });
writeFileSync(join(sd15, "tokenizer", "merges.txt"), "#version: 0.2\n");
json(join(sd15, "tokenizer", "tokenizer_config.json"), { model_max_length: 77, pad_token: "<|endoftext|>" });
console.log(JSON.stringify({ hfHome: join(root, "hf"), weights: join(root, "person") }));
