/** What a training is refused for before it starts. */
import { totalmem } from "node:os";
import { AnchorError } from "../errors.ts";

export function checkAmount(name: string, v: number | undefined): void {
  if (v !== undefined && !(v > 0 && Number.isFinite(v)))
    throw new AnchorError("OPTION", `${name}: expected a number above 0, got ${v}`, { misuse: true });
}

export function checkCount(name: string, v: number | undefined, most = Number.MAX_SAFE_INTEGER): void {
  if (v !== undefined && !(Number.isInteger(v) && v >= 0 && v <= most))
    throw new AnchorError("OPTION", `${name}: expected a whole number from 0${v > most ? ` to ${most}` : ""}, got ${v}`, { misuse: true });
}

/** Bytes a trained number takes: itself, its gradient and two moments, float32; and one that stays as it is. */
const bytes = { trained: 16, frozen: 4 } as const;
/** The VAE, a segment's activations, pictures and the program, GiB; see docs/design/full-size.md. */
const besides = 2.5;

/** Of a training, GiB. */
export const memoryNeeded = (count: { trained: number; frozen: number }): number =>
  (count.trained * bytes.trained + count.frozen * bytes.frozen) / 2 ** 30 + besides;

const billions = (count: number) => (count / 1e9).toFixed(2);

/** Stops before the machine starts to swap; on a GPU libtorch itself says when its memory is out. */
export function requireMemory(count: { trained: number; frozen: number }, device: string): void {
  if (device !== "cpu") return;
  const needed = memoryNeeded(count);
  const total = totalmem() / 2 ** 30;
  if (total >= needed) return;
  throw new AnchorError(
    "MEMORY",
    `this training needs about ${needed.toFixed(1)} GiB of memory (${billions(count.trained)} billion trained numbers with gradients and two moments, ${billions(count.frozen)} billion fixed ones), this machine has ${total.toFixed(1)}: use a larger one, ${count.frozen === 0 ? "--adapter lora, " : ""}or the mini preset`,
  );
}
