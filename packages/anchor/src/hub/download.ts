/**
 * Fetches files of a repository into the cache: resumed by range where it broke off, verified by size and hash, put in place by
 * renaming. A server that drops connections costs time, one that lies costs an error; neither leaves a wrong file behind.
 */
import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { claim } from "../claim.ts";
import { AnchorError } from "../errors.ts";
import { makeFolder, writeError, writeFileAtomic } from "../files.ts";
import type { WorkOptions } from "../progress.ts";
import { cachedSnapshot, repoFolder, safePath, type Hub } from "./cache.ts";
import { chooseFiles, type Published } from "./catalogue.ts";

export interface PullOptions extends WorkOptions {
  hub: Hub;
  /** Seconds without a byte before a connection counts as lost; default 30. */
  timeout?: number;
  /** Seconds before the first retry, doubled each time; default 1. */
  backoff?: number;
}

export interface PullResult {
  repo: string;
  commit: string;
  /** The files, under the names the repository gives them. */
  folder: string;
  files: number;
  bytes: number;
  /** How many of the bytes were fetched now; the rest was here. */
  fetched: number;
}

/** A file as the hub lists it. */
interface Listed {
  readonly name: string;
  readonly size: number;
  /** Name of its content in the cache, and what it must hash to. */
  readonly etag: string;
  readonly algorithm: "sha256" | "git";
}

/** Failed attempts in a row, without a byte gained, before we give up. */
const patience = 5;
const mib = 1 << 20;

class Retry extends Error {
  readonly after: number | undefined;
  constructor(message: string, after?: number) {
    super(message);
    this.after = after;
  }
}

const headersOf = (hub: Hub, more: Record<string, string> = {}): Record<string, string> => ({
  "user-agent": "make-your-anchor",
  ...(hub.token ? { authorization: `Bearer ${hub.token}` } : {}),
  ...more,
});

/** An answer that is none: a lasting error is thrown as such, a passing one as `Retry`. */
function judge(response: Response, entry: Published, hub: Hub, what: string): void {
  const { status } = response;
  if (response.ok) return;
  const page = `${hub.endpoint}/${entry.repo}`;
  const fail = (code: string, message: string): never => {
    throw new AnchorError(code, message);
  };
  switch (status) {
    case 401:
    case 403:
      return fail(
        "HUB_DENIED",
        hub.token
          ? `${page}: access denied (${status}): the token in use may not read it. Accept its licence on that page with the same account, or set another HF_TOKEN`
          : `${page}: access denied (${status}): it asks for an account. Accept its licence on that page, make a read token there, and set HF_TOKEN`,
      );
    case 404:
      return fail("HUB_NOT_FOUND", `${page}: ${what} was not found (404): check the name and the revision "${entry.revision}"`);
    case 408:
    case 425:
    case 429: {
      const after = Number(response.headers.get("retry-after"));
      throw new Retry(`${page}: asked to wait (${status})`, Number.isFinite(after) && after > 0 ? Math.min(after, 600) : undefined);
    }
    default:
      if (status >= 500) throw new Retry(`${page}: the server failed (${status})`);
      return fail("HUB_ANSWER", `${page}: ${what}: unexpected answer ${status}; is HF_ENDPOINT (${hub.endpoint}) a Hugging Face hub?`);
  }
}

/** Tries until it works; `gained` tells whether the attempt that failed brought something. */
async function persist<T>(o: PullOptions, attempt: () => Promise<T>, gained: () => boolean = () => false): Promise<T> {
  let failures = 0;
  for (;;) {
    o.signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      o.signal?.throwIfAborted();
      if (error instanceof AnchorError) throw error;
      failures = gained() ? 1 : failures + 1;
      const why =
        error instanceof Error
          ? error.cause instanceof Error
            ? `${error.message}: ${error.cause.message}`
            : error.message
          : String(error);
      if (failures >= patience)
        throw new AnchorError(
          "HUB_LOST",
          `${o.hub.endpoint} cannot be reached or breaks off (${why}): what was fetched is kept; type the same command to go on, or set HF_ENDPOINT to a mirror`,
          { cause: error },
        );
      const pause = (error instanceof Retry ? error.after : undefined) ?? Math.min(60, (o.backoff ?? 1) * 2 ** (failures - 1));
      await wait(pause * 1000, undefined, { signal: o.signal });
    }
  }
}

/** A request that ends when nothing comes for a while. */
async function request(
  url: string,
  o: PullOptions,
  headers: Record<string, string>,
  use: (r: Response, alive: () => void) => Promise<void>,
): Promise<void> {
  const stalled = new AbortController();
  const limit = (o.timeout ?? 30) * 1000;
  let timer = setTimeout(() => stalled.abort(new Error(`no answer for ${limit / 1000} s`)), limit);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stalled.abort(new Error(`nothing came for ${limit / 1000} s`)), limit);
  };
  try {
    // fetch leaves the token out when it is sent on to another host.
    const response = await fetch(url, {
      headers,
      redirect: "follow",
      signal: AbortSignal.any([stalled.signal, ...(o.signal ? [o.signal] : [])]),
    });
    alive();
    await use(response, alive);
  } finally {
    clearTimeout(timer);
  }
}

async function list(entry: Published, o: PullOptions): Promise<{ commit: string; files: Listed[] }> {
  const { hub } = o;
  const url = `${hub.endpoint}/api/models/${entry.repo}/revision/${encodeURIComponent(entry.revision)}?blobs=true`;
  let json: unknown;
  await persist(o, () =>
    request(url, o, headersOf(hub), async (response) => {
      judge(response, entry, hub, `the repository ${entry.repo} at "${entry.revision}"`);
      try {
        json = await response.json();
      } catch (error) {
        if (error instanceof SyntaxError)
          throw new AnchorError("HUB_ANSWER", `${url}: not the answer of a Hugging Face hub; is HF_ENDPOINT (${hub.endpoint}) right?`, {
            cause: error,
          });
        throw error;
      }
    }),
  );
  const { sha, siblings } = (json ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== "string" || !/^[0-9a-f]{40,64}$/.test(sha) || !Array.isArray(siblings))
    throw new AnchorError("HUB_ANSWER", `${url}: not the answer of a Hugging Face hub; is HF_ENDPOINT (${hub.endpoint}) right?`);
  const files = siblings.map((s): Listed => {
    const { rfilename, size, blobId, lfs } = s as {
      rfilename?: unknown;
      size?: unknown;
      blobId?: unknown;
      lfs?: { sha256?: unknown; size?: unknown };
    };
    const bytes = lfs?.size ?? size;
    const etag = lfs?.sha256 ?? blobId;
    if (typeof rfilename !== "string" || typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0)
      throw new AnchorError("HUB_ANSWER", `${url}: a file without name or size is listed`);
    if (typeof etag !== "string" || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag))
      throw new AnchorError("HUB_ANSWER", `${url}: ${rfilename}: no hash is given, so it could not be verified`);
    return { name: safePath(rfilename), size: bytes, etag, algorithm: lfs?.sha256 ? "sha256" : "git" };
  });
  return { commit: sha, files };
}

const hashOf = (file: Listed): Hash =>
  file.algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${file.size}\0`);

/** Fetches one content into the cache; returns how many bytes came over the network. */
async function fetchBlob(
  entry: Published,
  commit: string,
  file: Listed,
  blob: string,
  o: PullOptions,
  onBytes: (have: number) => void,
): Promise<number> {
  const part = `${blob}.incomplete`;
  using _ = claim(`${blob}.lock`, `${file.name} is being fetched`, "HUB_BUSY");
  let fetched = 0;
  const url = `${o.hub.endpoint}/${entry.repo}/resolve/${commit}/${file.name.split("/").map(encodeURIComponent).join("/")}`;
  for (let rounds = 0; ; rounds++) {
    let have = existsSync(part) ? statSync(part).size : 0;
    if (have > file.size) {
      rmSync(part);
      have = 0;
    }
    let before = have;
    await persist(
      o,
      async () => {
        before = have = existsSync(part) ? statSync(part).size : 0;
        if (have === file.size && (have > 0 || existsSync(part))) return;
        await request(
          url,
          o,
          headersOf(o.hub, { "accept-encoding": "identity", ...(have > 0 ? { range: `bytes=${have}-` } : {}) }),
          async (response, alive) => {
            if (response.status === 416) {
              rmSync(part, { force: true });
              throw new Retry("the server has fewer bytes than it sent before");
            }
            judge(response, entry, o.hub, file.name);
            const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
            // A server that knows no ranges sends all of it again.
            const from = response.status === 206 ? Number(range?.[1] ?? have) : 0;
            if (from !== have && from !== 0) throw new Retry(`asked from byte ${have}, the server sent from ${from}`);
            let fd: number;
            try {
              fd = openSync(part, from === 0 ? "w" : "a");
            } catch (cause) {
              throw writeError(part, cause);
            }
            have = from;
            try {
              for await (const chunk of response.body ?? []) {
                alive();
                if (have + chunk.length > file.size) {
                  closeSync(fd);
                  fd = -1;
                  rmSync(part, { force: true });
                  throw new AnchorError(
                    "HUB_LIES",
                    `${url}: more bytes came than the ${file.size} announced: the server or something between garbles the file; try again, or another HF_ENDPOINT`,
                  );
                }
                try {
                  for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done);
                } catch (cause) {
                  throw writeError(part, cause);
                }
                have += chunk.length;
                fetched += chunk.length;
                onBytes(have);
              }
            } finally {
              if (fd >= 0) closeSync(fd);
            }
            if (have < file.size) throw new Retry(`${file.name} broke off at byte ${have} of ${file.size}`);
          },
        );
      },
      () => have > before,
    );
    if (!existsSync(part)) writeFileSync(part, ""); // an empty file
    const hash = hashOf(file);
    for await (const chunk of createReadStream(part)) {
      o.signal?.throwIfAborted();
      hash.update(chunk as Buffer);
    }
    if (hash.digest("hex") === file.etag) break;
    rmSync(part, { force: true });
    onBytes(0);
    // Once may be an old remainder; twice is the server.
    if (rounds >= 1)
      throw new AnchorError(
        "HUB_HASH",
        `${url}: the file came whole but its ${file.algorithm === "sha256" ? "SHA-256" : "git hash"} is not the one announced; nothing was kept. Try again later, or another HF_ENDPOINT`,
      );
  }
  renameSync(part, blob);
  return fetched;
}

/** The snapshot's name for a content: a link, or a copy where links cannot be made. */
function place(blob: string, path: string): void {
  makeFolder(dirname(path));
  const temporary = `${path}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  try {
    symlinkSync(relative(dirname(path), blob), temporary);
    renameSync(temporary, path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EPERM") throw writeError(path, cause);
    writeFileAtomic(path, readFileSync(blob));
  }
}

/**
 * Brings a repository's files into the cache; what is there already is not fetched again.
 * @throws {AnchorError} `HUB_DENIED`, `HUB_NOT_FOUND`, `HUB_LOST`, `HUB_LIES`, `HUB_HASH`, `HUB_BUSY`, `WRITE`
 */
export async function pull(entry: Published, o: PullOptions): Promise<PullResult> {
  if (o.hub.offline) {
    const folder = cachedSnapshot(o.hub, entry);
    throw new AnchorError(
      "HUB_OFFLINE",
      `HF_HUB_OFFLINE is set, so nothing is fetched${folder ? ` (what is here: ${folder})` : ""}; unset it to pull ${entry.name}`,
      { misuse: true },
    );
  }
  const { commit, files: listed } = await list(entry, o);
  const chosen = new Set(
    chooseFiles(
      entry,
      listed.map((f) => f.name),
    ),
  );
  const files = listed.filter((f) => chosen.has(f.name));
  if (files.length === 0)
    throw new AnchorError(
      "HUB_NOT_FOUND",
      `${o.hub.endpoint}/${entry.repo}: none of its ${listed.length} files is a model in diffusers' or transformers' layout`,
    );
  const root = repoFolder(o.hub, entry.repo);
  const blobs = makeFolder(join(root, "blobs"));
  const snapshot = join(root, "snapshots", commit);
  const bytes = files.reduce((n, f) => n + f.size, 0);
  let [behind, fetched] = [0, 0];
  for (const file of files) {
    const blob = join(blobs, file.etag);
    const report = (have: number) =>
      o.onProgress?.({
        stage: `fetching ${entry.name}`,
        done: Math.ceil((behind + have) / mib),
        total: Math.ceil(bytes / mib),
        unit: "MiB",
        note: file.name,
      });
    if (!(existsSync(blob) && statSync(blob).size === file.size)) fetched += await fetchBlob(entry, commit, file, blob, o, report);
    place(blob, join(snapshot, file.name));
    behind += file.size;
    report(0);
  }
  // Last: from here on the revision is whole.
  writeFileAtomic(join(root, "refs", entry.revision), commit);
  return { repo: entry.repo, commit, folder: snapshot, files: files.length, bytes, fetched };
}
