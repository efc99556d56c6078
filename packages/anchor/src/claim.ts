/** One process at a time works at a thing: two trainings of one avatar would write over each other's states. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { AnchorError } from "./errors.ts";
import { makeFolder, writeError } from "./files.ts";

/** Who holds a lock. A number of a process alone may by now be another's: when it began tells them apart. */
interface Holder {
  pid: number;
  began: string | null;
  host: string;
}

/** When a process began, in ticks since the machine did; null where the system does not tell. */
function beginOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]; // the name in brackets may hold anything
  } catch {
    return null;
  }
}

function lives({ pid, began, host }: Holder): boolean {
  // What another machine, or a container that is gone, left behind cannot be asked: a crash there must not keep the next one out.
  if (host !== hostname() || !Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return began === null || began === beginOf(pid);
}

function holderOf(lock: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(lock, "utf8")) as Holder;
  } catch {
    return undefined; // gone meanwhile, or nothing that we wrote
  }
}

/**
 * Claims what a lock file stands for; disposed, it is free again. A lock left by a process that died is taken over.
 * @param lock the file, in a folder that is made where it is not there
 * @param what what is done, as "oliver's body is being trained"
 * @throws {AnchorError} `BUSY` while another process of this machine, or this one, is at it; `WRITE`
 */
export function claim(lock: string, what: string, code = "BUSY"): Disposable {
  makeFolder(dirname(lock));
  const holder: Holder = { pid: process.pid, began: beginOf(process.pid), host: hostname() };
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(lock, JSON.stringify(holder), { flag: "wx" });
      return { [Symbol.dispose]: () => rmSync(lock, { force: true }) };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw writeError(lock, cause);
    }
    const other = holderOf(lock);
    if (other ? lives(other) : tries > 2) {
      const who = other?.pid === process.pid ? "this process" : `process ${other?.pid ?? "unknown"}`;
      throw new AnchorError(code, `${what} already, by ${who}: wait for it, or stop it and try again (its mark is ${lock})`);
    }
    // One that says nothing may be just about to.
    if (!other && tries === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    else rmSync(lock, { force: true });
  }
}
