/** Configs as diffusers and transformers write them: plain JSON, the published file is the truth. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { saveSafetensors, TorchError, type Module } from "@make-your-anchor/torch";

export class ConfigError extends TorchError {
  constructor(message: string) {
    super("CONFIG", message);
  }
}

/** Reads a JSON object; errors name the file. */
export function readConfig(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new TorchError("FILE", `${path}: no such file; a model folder holds config.json beside its weights`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new ConfigError(`${path}: not a JSON object`);
}

/** Fails on a setting that the published checkpoints we load never use and that our models do not implement. */
export function requireDefaults(what: string, config: Record<string, unknown>, defaults: Record<string, unknown>): void {
  for (const [key, wanted] of Object.entries(defaults)) {
    const got = config[key];
    if (got !== undefined && got !== null && JSON.stringify(got) !== JSON.stringify(wanted)) {
      throw new ConfigError(`${what}: ${key} = ${JSON.stringify(got)} is not supported, only ${JSON.stringify(wanted)}`);
    }
  }
}

/** Writes config.json and the weights, each atomically, so that diffusers can load the folder. */
export function saveModel(folder: string, model: Module, config: object, weightName: string = "diffusion_pytorch_model.safetensors"): void {
  mkdirSync(folder, { recursive: true });
  saveSafetensors(join(folder, weightName), model.stateDict());
  const temporary = join(folder, `config.json.${process.pid}.tmp`);
  writeFileSync(temporary, `${JSON.stringify(config, null, 2)}\n`);
  renameSync(temporary, join(folder, "config.json"));
}
