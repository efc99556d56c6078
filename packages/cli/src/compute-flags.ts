/** `--device` and `--precision`, the same for every command that computes. */
import { Option, type Command } from "commander";

export interface ComputeFlags {
  device?: string;
  precision?: "float32" | "float16" | "bfloat16";
}

export const addComputeFlags = (command: Command): Command =>
  command
    .option("--device <d>", "cpu, cuda, cuda:N; default: a GPU where the engine can use one (ANCHOR_DEVICE changes that)")
    .addOption(
      new Option(
        "--precision <p>",
        "arithmetic; default: float32, but float16 for rendering on a GPU (bfloat16 trains there at half the memory traffic)",
      ).choices(["float32", "float16", "bfloat16"]),
    );
