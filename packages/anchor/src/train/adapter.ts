/** A person's weights as low-rank adapters of UNet and ControlNet: what is trained and kept in the place of the whole. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Generator, LowRankAdapter, SafetensorsFile, type Parameter, type Tensor } from "@make-your-anchor/torch";
import { AnchorError } from "../errors.ts";
import { startSeed, type StartedModels } from "../models/start.ts";

/** The name diffusers looks for. */
export const adapterFile = "pytorch_lora_weights.safetensors";

export interface AdapterOptions {
  /** "lora": trains adapters instead of all weights; a small file then stands for the person, beside the base it was trained from. */
  adapter?: "lora";
  /** Rank of the adapters, 1 to 512; default 16. */
  rank?: number;
}

/** The rank that was asked for; null: all weights. @throws {AnchorError} `OPTION` */
export function adapterRank(o: AdapterOptions, from: string): number | null {
  const misuse = (message: string) => new AnchorError("OPTION", message, { misuse: true });
  if (o.adapter === undefined) {
    if (o.rank !== undefined) throw misuse("rank: it is an adapter's: ask for one with --adapter lora");
    return null;
  }
  if (o.adapter !== "lora") throw misuse(`adapter: expected lora, got "${String(o.adapter)}"`);
  if (from === "nothing") throw misuse("--adapter lora: an adapter changes weights that are trained already: leave out --from nothing");
  const rank = o.rank ?? 16;
  if (!(Number.isInteger(rank) && rank >= 1 && rank <= 512)) throw misuse(`rank: expected a whole number from 1 to 512, got ${rank}`);
  return rank;
}

/** Of both networks. */
export class PersonAdapter {
  readonly rank: number;
  private readonly parts: { prefix: string; adapter: LowRankAdapter }[];

  constructor({ unet, controlnet }: Pick<StartedModels, "unet" | "controlnet">, rank: number) {
    this.rank = rank;
    // The embeddings of time are not a person's; the condition's and the zero convolutions are small, and count.
    const targets = (module: string) => !module.startsWith("time_embedding");
    this.parts = [
      { prefix: "unet.", adapter: new LowRankAdapter(unet, { rank, targets }) },
      { prefix: "controlnet.", adapter: new LowRankAdapter(controlnet, { rank, targets }) },
    ];
  }
  initialize(device: string): this {
    using g = new Generator(startSeed + 3);
    for (const { adapter } of this.parts) adapter.initialize(g).to(device);
    return this;
  }
  get parameterCount(): number {
    return this.parts.reduce((sum, { adapter }) => sum + adapter.parameterCount, 0);
  }
  namedParameters(): [string, Parameter][] {
    return this.parts.flatMap(({ prefix, adapter }) => [...adapter.namedParameters(prefix)]);
  }
  /** The ControlNet's, whose gradients the original clips. */
  ofControlNet(): Parameter[] {
    return [...this.parts[1].adapter.namedParameters()].map(([, p]) => p);
  }
  stateDict(): Map<string, Tensor> {
    return new Map(this.parts.flatMap(({ prefix, adapter }) => [...adapter.stateDict(prefix)]));
  }
  detach(): void {
    for (const { adapter } of this.parts) adapter.detach();
  }

  /** Adds a folder's adapter to the models' weights for good. */
  static mergeFrom(folder: string, models: Pick<StartedModels, "unet" | "controlnet">): void {
    const path = join(folder, adapterFile);
    using file = new SafetensorsFile(path);
    const first = [...file.keys()].find((k) => k.endsWith(".lora_A.weight"));
    if (first === undefined) throw new AnchorError("ADAPTER", `${path}: no low-rank weights there (no name ends with .lora_A.weight)`);
    const own = new PersonAdapter(models, file.shape(first)[0]);
    try {
      for (const { prefix, adapter } of own.parts) adapter.loadStateDict(file, { prefix, what: path });
    } catch (error) {
      own.detach();
      throw error;
    }
    for (const { adapter } of own.parts) adapter.merge();
  }
}

export const hasAdapter = (folder: string): boolean => existsSync(join(folder, adapterFile));
