/** One process at a time works at a thing: two trainings of one avatar would write over each other's states. */
import { closeSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
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

/** Whether this process has the file open: a thread that was terminated has not, for Node closes what it left open. */
function openHere(file: string): boolean {
  const fds = "/proc/self/fd";
  try {
    const { dev, ino } = statSync(file, { bigint: true });
    return readdirSync(fds).some((fd) => {
      const s = statSync(join(fds, fd), { bigint: true, throwIfNoEntry: false });
      return s?.dev === dev && s.ino === ino;
    });
  } catch {
    return true; // another system: it cannot be told
  }
}

function lives({ pid, began, host }: Holder, lock: string): boolean {
  // What another machine, or a container that is gone, left behind cannot be asked: a crash there must not keep the next one out.
  if (host !== hostname() || !Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  if (began !== null && began !== beginOf(pid)) return false;
  return pid !== process.pid || openHere(lock);
}

function holderOf(lock: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(lock, "utf8")) as Holder;
  } catch {
    return undefined; // gone meanwhile, or nothing that we wrote
  }
}

/**
 * Claims what a lock file stands for; disposed, it is free again. A lock left by a process or a worker thread that died is taken over.
 * @param lock the file, in a folder that is made where it is not there
 * @param what what is done, as "oliver's body is being trained"
 * @throws {AnchorError} `BUSY` while another process of this machine, or this one, is at it; `WRITE`
 */
export function claim(lock: string, what: string, code = "BUSY"): Disposable {
  makeFolder(dirname(lock));
  const holder: Holder = { pid: process.pid, began: beginOf(process.pid), host: hostname() };
  for (let tries = 0; ; tries++) {
    try {
      const fd = openSync(lock, "wx");
      try {
        writeSync(fd, JSON.stringify(holder));
      } catch (cause) {
        closeSync(fd);
        rmSync(lock, { force: true });
        throw cause;
      }
      return {
        [Symbol.dispose]() {
          rmSync(lock, { force: true });
          closeSync(fd);
        },
      };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw writeError(lock, cause);
    }
    const other = holderOf(lock);
    if (other ? lives(other, lock) : tries > 2) {
      const who = other?.pid === process.pid ? "this process" : `process ${other?.pid ?? "unknown"}`;
      throw new AnchorError(code, `${what} already, by ${who}: wait for it, or stop it and try again (its mark is ${lock})`);
    }
    // One that says nothing may be just about to.
    if (!other && tries === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    else rmSync(lock, { force: true });
  }
}
