/** The avatar folder: the contract between all stages. */
import { existsSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { conditionStyles } from "./conditions.ts";
import { AnchorError } from "./errors.ts";
import { frameName, readJson, writeJson } from "./files.ts";

const errorSummary = z.object({ median: z.number().nullable(), p95: z.number().nullable() });

export const avatarSchema = z.object({
  format: z.literal(1),
  name: z.string().min(1),
  preset: z.enum(["mini", "sd15"]),
  resolution: z.number().int().positive(),
  fps: z.number().positive(),
  frames: z.number().int().positive(),
  /** Frames from this one on are held out: never trained on. */
  heldOutFrom: z.number().int().positive(),
  /** Frames in which the person was not to be seen, or their face was not: never learnt from as such. Left out: everything was seen. */
  unseen: z.object({ person: z.array(z.number().int()), face: z.array(z.number().int()) }).optional(),
  bodyModel: z.string(),
  /** How the condition frames show the mesh. */
  conditionStyle: z.enum(conditionStyles).default("shaded"),
  clip: z.object({
    source: z.string(),
    /** Part of the picture the avatar lives in, pixels of the source. */
    crop: z.object({ x: z.number(), y: z.number(), width: z.number(), height: z.number() }),
    hasAudio: z.boolean(),
  }),
  fit: z.object({
    body: errorSummary,
    hands: errorSummary,
    face: errorSummary,
    bridged: z.object({ body: z.number(), leftHand: z.number(), rightHand: z.number(), face: z.number() }),
  }),
  created: z.string(),
  tool: z.string(),
});
export type AvatarInfo = z.infer<typeof avatarSchema>;

/** Where avatars of that name lie: `avatars/NAME` under the working folder; a NAME with a slash is a path of its own. */
export function avatarPath(name: string, workingFolder: string): string {
  if (name.includes("/") || name.includes("\\")) return resolve(workingFolder, name);
  if (!/^[\w.-]+$/u.test(name) || name.startsWith("."))
    throw new AnchorError("NAME", `"${name}": an avatar's name holds letters, digits, "-", "_" and "." only`, { misuse: true });
  return join(workingFolder, "avatars", name);
}

export class Avatar {
  readonly folder: string;
  readonly info: AvatarInfo;

  constructor(folder: string, info: AvatarInfo) {
    this.folder = folder;
    this.info = info;
  }

  /** @throws {AnchorError} when the folder is not there or its avatar.json is not one */
  static open(folder: string): Avatar {
    const path = join(folder, "avatar.json");
    if (!existsSync(path)) {
      const started = existsSync(folder) && statSync(folder).isDirectory();
      throw new AnchorError(
        "NO_AVATAR",
        started
          ? `${folder}: the avatar is not complete: its creation was interrupted; type the "anchor create" command again, finished work is kept`
          : `${folder}: no such avatar: make one with "anchor create ${basename(folder)} --clip FILE"`,
        { misuse: true },
      );
    }
    const parsed = avatarSchema.safeParse(readJson(path));
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new AnchorError(
        "AVATAR_FILE",
        `${path}: ${issue.path.join(".")}: ${issue.message}; was it edited, or made by another version?`,
      );
    }
    return new Avatar(folder, parsed.data);
  }
  static exists(folder: string): boolean {
    return existsSync(join(folder, "avatar.json"));
  }

  /** Frames `from` … `to − 1` in which the person is to be seen. */
  framesWithPerson(from: number, to: number): number[] {
    const gone = new Set(this.info.unseen?.person);
    return Array.from({ length: to - from }, (_, i) => from + i).filter((i) => !gone.has(i));
  }
  /** Frames that may be learnt from. */
  get trainingFrames(): number[] {
    return this.framesWithPerson(0, this.info.heldOutFrom);
  }
  /** The picture the appearance is taken from: the first that shows the person. */
  get referencePath(): string {
    return this.frame(this.trainingFrames[0] ?? 0);
  }
  /** Whether the clip shows the person's face in a frame. */
  showsFace(frame: number): boolean {
    const { unseen } = this.info;
    return !unseen?.person.includes(frame) && !unseen?.face.includes(frame);
  }

  save(): void {
    writeJson(join(this.folder, "avatar.json"), this.info);
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }
  frame(i: number): string {
    return this.path("clip", "frames", frameName(i));
  }
  condition(i: number): string {
    return this.path("conditions", frameName(i));
  }
  get motionPath(): string {
    return this.path("motion.npz");
  }
  get audioPath(): string | undefined {
    const path = this.path("clip", "audio.wav");
    return existsSync(path) ? path : undefined;
  }
  /** Whether a trained head model is there. */
  get headTrained(): boolean {
    return this.hasModel("head");
  }
  /** Whether a trained body model is there. */
  get trained(): boolean {
    return this.hasModel("body");
  }
  /** Whole, or as an adapter. */
  private hasModel(model: "body" | "head"): boolean {
    return (
      existsSync(this.path(model, "pytorch_lora_weights.safetensors")) ||
      (existsSync(this.path(model, "unet", "config.json")) && existsSync(this.path(model, "controlnet", "config.json")))
    );
  }
}
