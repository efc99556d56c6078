/** Fetching weights from a hub that behaves, and from hubs that do not. */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { cachedSnapshot, hubOf, parseRepo, type Hub } from "./cache.ts";
import { catalogue, chooseFiles, findPublished, publishedStatus, requirePublished } from "./catalogue.ts";
import { pull } from "./download.ts";

const commit = "a".repeat(40);
const large = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8)) & 255));
const contents: Record<string, Buffer> = {
  "unet/config.json": Buffer.from('{"_class_name": "UNet2DConditionModel"}'),
  "unet/diffusion_pytorch_model.safetensors": Buffer.from(large),
  "unet/diffusion_pytorch_model.bin": Buffer.from("the same as a pickle"),
  "unet/diffusion_pytorch_model.fp16.safetensors": Buffer.from("the same in half"),
  "vae/config.json": Buffer.from("{}"),
  "vae/diffusion_pytorch_model.bin": Buffer.from("only a pickle here"),
  "text_encoder/config.json": Buffer.from("{ }"),
  "text_encoder/model.safetensors": Buffer.from("text"),
  "tokenizer/vocab.json": Buffer.from("{  }"),
  "tokenizer/merges.txt": Buffer.from(""),
  "scheduler/scheduler_config.json": Buffer.from("{   }"),
  "safety_checker/model.safetensors": Buffer.from("not used"),
  "model_index.json": Buffer.from("{}"),
  "v1-5-pruned-emaonly.safetensors": Buffer.from("the whole again"),
  "README.md": Buffer.from("# a model"),
};
const isLfs = (name: string) => /\.(safetensors|bin)$/.test(name);
const sha256 = (b: Buffer) => createHash("sha256").update(b).digest("hex");
const gitHash = (b: Buffer) => createHash("sha1").update(`blob ${b.length}\0`).update(b).digest("hex");
const listing = (files: Record<string, Buffer> = contents) => ({
  sha: commit,
  siblings: Object.entries(files).map(([rfilename, b]) => ({
    rfilename,
    size: b.length,
    blobId: gitHash(b),
    ...(isLfs(rfilename) ? { lfs: { sha256: sha256(b), size: b.length } } : {}),
  })),
});

type Answer = (request: IncomingMessage, response: ServerResponse, name: string) => boolean;
/** How the server misbehaves in a test: true when it has answered. */
let misbehave: Answer = () => false;
let list: () => unknown = listing;
const asked: { name: string; range?: string; authorization?: string }[] = [];

const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url!, "http://x").pathname);
  const name = path.startsWith("/api/") ? "list" : path.replace(/^.*\/resolve\/[^/]+\//, "");
  asked.push({ name, range: request.headers.range, authorization: request.headers.authorization });
  if (misbehave(request, response, name)) return;
  if (name === "list") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(list()));
    return;
  }
  const body = contents[name];
  if (!body) return void response.writeHead(404).end("Entry not found");
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  if (from > 0)
    response.writeHead(206, { "content-range": `bytes ${from}-${body.length - 1}/${body.length}`, "content-length": body.length - from });
  else response.writeHead(200, { "content-length": body.length });
  response.end(body.subarray(from));
});

let hub: Hub;
let home: string;
beforeAll(() => new Promise<void>((done) => void server.listen(0, "127.0.0.1", done)));
afterAll(() => void server.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "hub-"));
  hub = hubOf({ HF_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, HF_HOME: home });
  misbehave = () => false;
  list = listing;
  asked.length = 0;
});
afterEach(() => rmSync(home, { recursive: true, force: true }));
const get = (more: object = {}) => pull(catalogue.sd15, { hub, backoff: 0.01, timeout: 2, ...more });
const weights = "unet/diffusion_pytorch_model.safetensors";
const leftovers = () => readdirSync(join(home, "hub"), { recursive: true, encoding: "utf8" }).filter((f) => /incomplete|lock|tmp/.test(f));

describe("pull", () => {
  it("puts the files in use into the cache's own layout, verified, and asks for none twice", async () => {
    const progress: number[] = [];
    const result = await get({ onProgress: (p: { done: number; total: number }) => progress.push(p.done / p.total) });
    expect(result.folder).toBe(join(home, "hub", "models--stable-diffusion-v1-5--stable-diffusion-v1-5", "snapshots", commit));
    const here = readdirSync(result.folder, { recursive: true, encoding: "utf8" }).filter((f) =>
      lstatSync(join(result.folder, f)).isSymbolicLink(),
    );
    expect(here.sort()).toEqual(
      [
        "unet/config.json",
        weights,
        "vae/config.json",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
      ].sort(),
    );
    for (const f of here) expect(readFileSync(join(result.folder, f)).equals(contents[f]), f).toBe(true);
    expect(cachedSnapshot(hub, catalogue.sd15)).toBe(result.folder);
    expect(result.fetched).toBe(result.bytes);
    expect(progress.at(-1)).toBe(1);
    expect(leftovers()).toEqual([]);
    expect(publishedStatus(hub, catalogue.sd15).present).toBe(true);
    expect(requirePublished(hub, "sd15")).toBe(result.folder);
    asked.length = 0;
    expect((await get()).fetched).toBe(0);
    expect(asked.map((a) => a.name)).toEqual(["list"]);
  });

  it("goes on where the connection dropped", async () => {
    let drops = 0;
    misbehave = (request, response, name) => {
      if (name !== weights || drops++ >= 3) return false;
      const from = Number(/(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(from ? 206 : 200, {
        "content-length": large.length - from,
        "content-range": `bytes ${from}-${large.length - 1}/${large.length}`,
      });
      response.write(large.subarray(from, from + 70_000), () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    await get();
    const ranges = asked.filter((a) => a.name === weights).map((a) => Number(/(\d+)/.exec(a.range ?? "0")?.[1]));
    expect(ranges).toHaveLength(4);
    expect(ranges[0]).toBe(0);
    for (let i = 1; i < 4; i++) expect(ranges[i]).toBeGreaterThan(ranges[i - 1]);
  });

  it("an interrupted pull keeps what came and goes on with the same command", async () => {
    const abort = new AbortController();
    misbehave = (_, response, name) => {
      if (name !== weights) return false;
      response.writeHead(200, { "content-length": large.length });
      response.write(large.subarray(0, 100_000), () => setTimeout(() => abort.abort(), 50));
      return true;
    };
    await expect(get({ signal: abort.signal })).rejects.toThrow();
    expect(cachedSnapshot(hub, catalogue.sd15)).toBeUndefined();
    misbehave = () => false;
    asked.length = 0;
    await get();
    expect(asked.find((a) => a.name === weights)!.range).toBe("bytes=100000-");
  });

  it("a server that knows no ranges sends all again", async () => {
    let first = true;
    misbehave = (_, response, name) => {
      if (name !== weights) return false;
      response.writeHead(200, { "content-length": large.length });
      if (first) response.write(large.subarray(0, 50_000), () => setTimeout(() => response.destroy(), 20));
      else response.end(large);
      first = false;
      return true;
    };
    const { folder } = await get();
    expect(readFileSync(join(folder, weights)).equals(large)).toBe(true);
  });

  it("a stalled connection is given up and tried again", async () => {
    let stalls = 0;
    misbehave = (_, response, name) => {
      if (name !== weights || stalls++ > 0) return false;
      response.writeHead(200, { "content-length": large.length });
      response.write(large.subarray(0, 10));
      return true;
    };
    await get({ timeout: 0.2 });
    expect(stalls).toBe(2);
  });

  it("429 waits as long as it is told, 503 a little", async () => {
    let calls = 0;
    misbehave = (_, response, name) => {
      if (name !== "list" || calls++ > 1) return false;
      response.writeHead(calls === 1 ? 429 : 503, calls === 1 ? { "retry-after": "1" } : {}).end();
      return true;
    };
    const from = performance.now();
    await get();
    expect(performance.now() - from).toBeGreaterThan(950);
    expect(calls).toBe(3);
  });

  it.each([
    [401, /asks for an account\. Accept its licence on that page, make a read token there, and set HF_TOKEN/],
    [403, /asks for an account/],
    [404, /was not found \(404\): check the name and the revision "main"/],
    [418, /unexpected answer 418/],
  ])("%i ends with what to do", async (status, message) => {
    misbehave = (_, response) => {
      response.writeHead(status).end();
      return true;
    };
    await expect(get()).rejects.toThrow(message);
    expect(asked).toHaveLength(1);
  });

  it("a token that may not read it is named as such; it goes with every request", async () => {
    hub = { ...hub, token: "hf_secret" };
    misbehave = (_, response) => {
      response.writeHead(403).end();
      return true;
    };
    await expect(get()).rejects.toThrow(/the token in use may not read it/);
    expect(asked[0].authorization).toBe("Bearer hf_secret");
  });

  it("the token does not follow to another origin", async () => {
    hub = { ...hub, token: "hf_secret" };
    const elsewhere: (string | undefined)[] = [];
    const other = createServer((request, response) => {
      elsewhere.push(request.headers.authorization);
      response.writeHead(200, { "content-length": large.length }).end(large);
    });
    await new Promise<void>((done) => void other.listen(0, "127.0.0.1", done));
    misbehave = (_, response, name) => {
      if (name !== weights) return false;
      response.writeHead(302, { location: `http://127.0.0.1:${(other.address() as AddressInfo).port}/blob` }).end();
      return true;
    };
    await get();
    other.close();
    expect(elsewhere).toEqual([undefined]);
  });

  it("lies about lengths and contents leave nothing behind", async () => {
    misbehave = (_, response, name) => {
      if (name !== weights) return false;
      response.writeHead(200).end(Buffer.concat([large, Buffer.from("more")]));
      return true;
    };
    await expect(get()).rejects.toThrow(/more bytes came than the 300000 announced/);
    expect(leftovers()).toEqual([]);
    misbehave = (_, response, name) => {
      if (name !== weights) return false;
      response.writeHead(200, { "content-length": large.length }).end(Buffer.alloc(large.length, 7));
      return true;
    };
    await expect(get()).rejects.toThrow(/SHA-256 is not the one announced; nothing was kept/);
    expect(leftovers()).toEqual([]);
    expect(publishedStatus(hub, catalogue.sd15).present).toBe(false);
    expect(() => requirePublished(hub, "sd15")).toThrow(/fetch it with "anchor pull sd15"/);
  });

  it("a remainder of another file is noticed and fetched anew", async () => {
    const blobs = join(home, "hub", "models--stable-diffusion-v1-5--stable-diffusion-v1-5", "blobs");
    mkdirSync(blobs, { recursive: true });
    writeFileSync(join(blobs, `${sha256(large)}.incomplete`), Buffer.alloc(1000, 9));
    const { folder } = await get();
    expect(readFileSync(join(folder, weights)).equals(large)).toBe(true);
  });

  it("a hub that is gone, or none at all", async () => {
    await expect(get({ hub: { ...hub, endpoint: "http://127.0.0.1:9" } })).rejects.toThrow(
      /cannot be reached or breaks off.*type the same command to go on/,
    );
    misbehave = (_, response) => {
      response.end("<html>a hotel's log-in page</html>");
      return true;
    };
    await expect(get()).rejects.toThrow(/not the answer of a Hugging Face hub/);
    await expect(get({ hub: { ...hub, offline: true } })).rejects.toThrow(/HF_HUB_OFFLINE is set/);
  });

  it("names that would leave the folder are refused", async () => {
    for (const name of ["../../.bashrc", "/etc/passwd", "unet/../../x", "a\\..\\b", "unet//config.json"]) {
      list = () => ({ ...listing(), siblings: [{ rfilename: name, size: 1, blobId: "b".repeat(40) }] });
      await expect(get(), name).rejects.toThrow(/outside its folder: refused/);
    }
    list = () => ({ ...listing(), siblings: [{ rfilename: "unet/config.json", size: 1, blobId: "../../x" }] });
    await expect(get()).rejects.toThrow(/no hash is given/);
    expect(existsSync(join(home, "hub"))).toBe(false);
  });

  it("a full disk or a folder one may not write is said, and what came is kept", async () => {
    writeFileSync(join(home, "hub"), "a file where the folder should be");
    await expect(get()).rejects.toThrow(/cannot be written/);
  });
});

describe("names and choices", () => {
  it("the environment's conventions", () => {
    writeFileSync(join(home, "token"), "hf_file\n");
    expect(hubOf({ HF_HOME: home }).token).toBe("hf_file");
    expect(hubOf({ HF_HOME: home, HF_TOKEN: "hf_env" }).token).toBe("hf_env");
    expect(hubOf({ HF_HOME: home }).endpoint).toBe("https://huggingface.co");
    expect(hubOf({ HF_HOME: home, HF_HUB_CACHE: "/c" }).cache).toBe("/c");
    expect(hubOf({ XDG_CACHE_HOME: "/x" }).cache).toBe("/x/huggingface/hub");
    expect(() => hubOf({ HF_ENDPOINT: "huggingface.co" })).toThrow(/expected a web address/);
  });
  it("repositories and revisions", () => {
    expect(parseRepo("owner/name@v1.0")).toEqual({ repo: "owner/name", revision: "v1.0" });
    for (const bad of ["../x", "a/b/c", "a b", "owner/name@../x", "owner/..", ""])
      expect(() => parseRepo(bad), bad).toThrow(/expected a repository/);
    expect(findPublished("sd15@abc").revision).toBe("abc");
    expect(() => findPublished("sd16")).toThrow(/neither one of sd15, sd-inpainting, clip-vit-b32 nor a repository/);
  });
  it("one form of the weights a folder, and what a repository of its own holds", () => {
    const other = findPublished("someone/else");
    expect(chooseFiles(other, ["config.json", "pytorch_model.bin", "model.safetensors", "preview.png", "README.md"])).toEqual([
      "README.md",
      "config.json",
      "model.safetensors",
    ]);
    const shards = [
      "unet/config.json",
      ...[1, 2].map((i) => `unet/diffusion_pytorch_model-0000${i}-of-00002.safetensors`),
      "unet/diffusion_pytorch_model.safetensors.index.json",
    ];
    expect(chooseFiles(other, shards)).toEqual([...shards].sort());
    const clip = ["config.json", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "preprocessor_config.json"];
    expect(chooseFiles(catalogue["clip-vit-b32"], clip)).toEqual(["config.json", "preprocessor_config.json", "pytorch_model.bin"]);
  });
});
