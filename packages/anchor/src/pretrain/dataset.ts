/**
 * A user's own pictures for stage 1: folders of avatars that `anchor create` made, or the original's lists (`body_train.json`,
 * `head_train.json`), as JSON or as a line of JSON for each sample.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { z } from "zod";
import { Avatar } from "../avatar.ts";
import { AnchorError } from "../errors.ts";
import { headPath, prepareHeads } from "../head/heads.ts";
import type { WorkOptions } from "../progress.ts";

/** One sample; paths. */
export interface Row {
  /** Whose it is. */
  person: string;
  /** The picture, and the mesh render that goes with it. */
  picture: string;
  condition: string;
  /** The picture that says who it is. */
  reference: string;
  /** Of a head: white where the picture is kept. Null: a whole body. */
  mask: string | null;
}

/** A line of the original's lists. Its `source` is the condition, its `target` the picture. */
const listed = z.object({
  source: z.string(),
  target: z.string(),
  reference: z.string(),
  mask: z.string().optional(),
  person: z.union([z.string(), z.number()]).optional(),
});

const misuse = (message: string) => new AnchorError("DATASET", message, { misuse: true });

/**
 * The samples of some sources.
 * @param heads whether heads are wanted too; avatars' are cut out where that was not done yet
 * @throws {AnchorError} `DATASET` for a source that is none, or holds nothing
 */
export async function datasetRows(sources: readonly string[], heads: boolean, o: WorkOptions = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for (const source of sources) {
    if (!existsSync(source)) throw misuse(`${source}: no such file or folder`);
    const own = statSync(source).isDirectory() ? await avatarsIn(source, heads, o) : listIn(source);
    if (own.length === 0)
      throw misuse(`${source}: no samples there: expected avatars made by "anchor create", or a list with source, target and reference`);
    for (const row of own) if (heads || row.mask === null) rows.push(row);
  }
  return rows;
}

async function avatarsIn(folder: string, heads: boolean, o: WorkOptions): Promise<Row[]> {
  const folders = Avatar.exists(folder)
    ? [folder]
    : readdirSync(folder)
        .sort()
        .map((name) => join(folder, name))
        .filter(Avatar.exists);
  const rows: Row[] = [];
  for (const path of folders) {
    const avatar = Avatar.open(path);
    // What is held out stays so: a base must not know what its fine-tuning is measured on.
    for (const f of avatar.trainingFrames)
      rows.push({ person: path, picture: avatar.frame(f), condition: avatar.condition(f), reference: avatar.referencePath, mask: null });
    if (!heads) continue;
    const cut = (await prepareHeads(avatar, o)).frames.filter((f) => f < avatar.info.heldOutFrom);
    for (const f of cut)
      rows.push({
        person: path,
        picture: headPath(avatar, "aligned", f),
        condition: headPath(avatar, "conditions", f),
        reference: headPath(avatar, "aligned", cut[0]),
        mask: headPath(avatar, "masks", f),
      });
  }
  return rows;
}

function listIn(path: string): Row[] {
  const text = readFileSync(path, "utf8").trim();
  const parse = (json: string, where: string): unknown => {
    try {
      return JSON.parse(json);
    } catch (cause) {
      throw misuse(`${where}: not JSON (${(cause as Error).message})`);
    }
  };
  const found = text.startsWith("[")
    ? (parse(text, path) as unknown[])
    : text.split("\n").flatMap((line, i) => (line.trim() === "" ? [] : [parse(line, `${path}, line ${i + 1}`)]));
  const home = dirname(resolve(path));
  /** Beside the list, or further down; a list from elsewhere reaches nothing outside its folder unless it says so by a whole path. */
  const file = (name: string, where: string): string => {
    const full = isAbsolute(name) ? name : resolve(home, name);
    if (!isAbsolute(name) && relative(home, full).startsWith("..")) throw misuse(`${where}: ${name} leads out of the list's folder`);
    if (!existsSync(full)) throw misuse(`${where}: ${name}: no such file (looked for ${full})`);
    return full;
  };
  return found.map((entry, i) => {
    const where = `${path}, sample ${i + 1}`;
    const parsed = listed.safeParse(entry);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw misuse(
        `${where}: ${issue.path.join(".") || "sample"}: ${issue.message}; expected source, target, reference and, for heads, mask`,
      );
    }
    const { source, target, reference, mask, person } = parsed.data;
    return {
      person: String(person ?? reference),
      picture: file(target, where),
      condition: file(source, where),
      reference: file(reference, where),
      mask: mask === undefined ? null : file(mask, where),
    };
  });
}
