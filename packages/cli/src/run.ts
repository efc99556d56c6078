/** What every command runs in: options common to all, Ctrl-C, errors to exit codes. */
import { resolve } from "node:path";
import type { Progress } from "@make-your-anchor/anchor";
import { progressLine } from "./terminal.ts";

export interface Context {
  json: boolean;
  signal: AbortSignal;
  onProgress: (p: Progress) => void;
  /** A path as its user meant it: from the folder the command was typed in. */
  path: (p: string) => string;
  /** Where avatars are looked for. */
  home: string;
}

/** `npm run` changes the folder; what the user typed is meant from theirs. */
const callerFolder = process.env.ANCHOR_CALLER_DIR ?? process.cwd();

/** Errors of the libraries carry a code and are meant for the user. */
const isExpected = (e: unknown): e is Error & { code: string; misuse?: boolean } =>
  e instanceof Error &&
  typeof (e as { code?: unknown }).code === "string" &&
  /^(AnchorError|MediaError|BodyError|TorchError|ShapeError|StateDictError|ConfigError|FaceError)$/.test(e.name);

const systemReasons: Record<string, string> = {
  ENOSPC: "the disk is full: free some space and type the same command again, finished work is kept",
  EACCES: "you may not write there: choose another folder or change its permissions",
  EROFS: "that file system is read-only: choose another folder",
};

/** Runs a command's body and sets the exit code: 0 done, 1 failed, 2 misused, 130 interrupted. */
export async function run(options: { json?: boolean }, body: (c: Context) => Promise<void>): Promise<void> {
  const line = progressLine();
  const abort = new AbortController();
  let presses = 0;
  const onInterrupt = () => {
    if (++presses > 1) process.exit(130);
    line.end();
    process.stderr.write("stopping after this step; press Ctrl-C again to stop at once\n");
    abort.abort();
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onInterrupt);
  try {
    await body({
      json: options.json ?? false,
      signal: abort.signal,
      onProgress: line.show,
      path: (p) => resolve(callerFolder, p),
      home: process.env.ANCHOR_HOME ? resolve(callerFolder, process.env.ANCHOR_HOME) : callerFolder,
    });
    line.end();
  } catch (error) {
    line.end();
    process.exitCode = report(error, abort.signal.aborted, options.json ?? false);
  } finally {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}

export function report(error: unknown, interrupted: boolean, json: boolean): number {
  const say = (code: string, message: string) => {
    process.stderr.write(`anchor: ${message}\n`);
    if (json) process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
  };
  if (interrupted) {
    say("INTERRUPTED", "interrupted; finished work is kept: type the same command to go on");
    return 130;
  }
  if (process.env.ANCHOR_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  if (isExpected(error)) {
    say(error.code, error.message);
    return error.misuse ? 2 : 1;
  }
  const code = (error as NodeJS.ErrnoException)?.code;
  if (code && systemReasons[code]) {
    say(code, `${(error as NodeJS.ErrnoException).path ?? "a file"}: ${systemReasons[code]}`);
    return 1;
  }
  say(
    "DEFECT",
    `${error instanceof Error ? error.message : String(error)} (unexpected: set ANCHOR_DEBUG=1 and run again to see where, and report it)`,
  );
  return 1;
}
