/** The Hugging Face cache on disk: where a repository's files lie, in the layout that huggingface_hub and diffusers share. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { AnchorError } from "../errors.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface Hub {
  /** Where files come from, without a slash at the end. `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** `HF_TOKEN`, or what `hf auth login` wrote. */
  readonly token?: string;
  /** Folder of all repositories. `HF_HUB_CACHE`, or `hub` under `HF_HOME`. */
  readonly cache: string;
  /** `HF_HUB_OFFLINE`. */
  readonly offline: boolean;
}

const given = (value: string | undefined): string | undefined => (value === undefined || value.trim() === "" ? undefined : value.trim());

/** The hub as its environment variables say. */
export function hubOf(env: Environment = process.env): Hub {
  const home = given(env.HF_HOME) ?? join(given(env.XDG_CACHE_HOME) ?? join(homedir(), ".cache"), "huggingface");
  const tokenFile = given(env.HF_TOKEN_PATH) ?? join(home, "token");
  const endpoint = (given(env.HF_ENDPOINT) ?? "https://huggingface.co").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(endpoint))
    throw new AnchorError("HF_ENDPOINT", `HF_ENDPOINT: expected a web address like https://huggingface.co, got "${endpoint}"`, {
      misuse: true,
    });
  return {
    endpoint,
    token: given(env.HF_TOKEN) ?? (existsSync(tokenFile) ? given(readFileSync(tokenFile, "utf8")) : undefined),
    cache: given(env.HF_HUB_CACHE) ?? join(home, "hub"),
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ""),
  };
}

/** A repository of models, and which state of it. */
export interface RepoId {
  /** `owner/name`, or a name alone for the oldest ones. */
  readonly repo: string;
  /** Branch, tag or commit; default `main`. */
  readonly revision: string;
}

const word = /^[\w][\w.-]*$/;

/** `owner/name[@revision]`. */
export function parseRepo(text: string): RepoId {
  const at = text.indexOf("@");
  const [repo, revision] = at < 0 ? [text, "main"] : [text.slice(0, at), text.slice(at + 1)];
  const parts = repo.split("/");
  const fine =
    parts.length <= 2 &&
    parts.every((p) => word.test(p) && !p.includes("..")) &&
    revision.split("/").every((p) => word.test(p) && !p.includes(".."));
  if (!fine) throw new AnchorError("REPO", `"${text}": expected a repository like owner/name or owner/name@revision`, { misuse: true });
  return { repo, revision };
}

export const repoFolder = (hub: Hub, repo: string): string => join(hub.cache, `models--${repo.replaceAll("/", "--")}`);

/** A file's place within a folder; anything that would lie elsewhere is refused: names come from the network. */
export function safePath(name: string): string {
  const parts = name.split("/");
  if (
    name === "" ||
    isAbsolute(name) ||
    name.includes("\\") ||
    name.includes("\0") ||
    parts.some((p) => p === "" || p === "." || p === "..")
  )
    throw new AnchorError(
      "HUB_FILE",
      `the repository lists a file named "${name.slice(0, 100)}", which would lie outside its folder: refused`,
    );
  return parts.join("/");
}

/** The commit a revision stood at when it was last pulled. */
export function cachedCommit(hub: Hub, { repo, revision }: RepoId): string | undefined {
  const folder = repoFolder(hub, repo);
  const ref = join(folder, "refs", revision);
  if (existsSync(ref)) {
    const commit = readFileSync(ref, "utf8").trim();
    if (/^[0-9a-f]{7,64}$/.test(commit)) return commit;
  }
  return /^[0-9a-f]{7,64}$/.test(revision) && existsSync(join(folder, "snapshots", revision)) ? revision : undefined;
}

/** The folder of a pulled repository's files; undefined when nothing of it is here. */
export function cachedSnapshot(hub: Hub, id: RepoId): string | undefined {
  const commit = cachedCommit(hub, id);
  const folder = commit && join(repoFolder(hub, id.repo), "snapshots", commit);
  return folder && existsSync(folder) ? folder : undefined;
}

/** Files of a folder, relative, with their sizes; links whose target is missing are left out. */
export function filesOf(folder: string): { name: string; size: number }[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .flatMap((name) => {
      const stat = statSync(join(folder, name), { throwIfNoEntry: false });
      return stat?.isFile() ? [{ name: name.replaceAll("\\", "/"), size: stat.size }] : [];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
