/** `--nproc N`: the same command in N processes on this machine, which find one another by the usual variables. */
import { spawn, type ChildProcess } from "node:child_process";
import { createServer, type AddressInfo } from "node:net";
import { AnchorError, groupFromEnvironment, ProcessGroup, setThreads, shareDevices, threadsOf } from "@make-your-anchor/anchor";

export interface Joined {
  /** Undefined: this process is alone. */
  group: ProcessGroup | undefined;
  /** What this one computes on; undefined: what was asked for. */
  device: string | undefined;
  /** Whether this process reports: the first, or the only one. */
  main: boolean;
  /** Waits for the others to end, or ends them. */
  close(failed: boolean): Promise<void>;
}

const alone: Joined = { group: undefined, device: undefined, main: true, close: async () => {} };
/** Seconds to wait for the others to come: they load libtorch and read the same options. */
const arrival = 120;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, fail) => server.once("error", fail).listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/**
 * Joins the processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (and LOCAL_RANK, LOCAL_WORLD_SIZE) name, or starts `nproc − 1` others like this one.
 * @param device as it was asked for
 * @throws {AnchorError} `OPTION`, `GROUP`
 */
export async function joinProcesses(nproc: number | undefined, device: string | undefined): Promise<Joined> {
  if (nproc !== undefined && !(Number.isInteger(nproc) && nproc >= 1 && nproc <= 256))
    throw new AnchorError("OPTION", `--nproc: expected a whole number from 1 to 256, got ${nproc}`, { misuse: true });
  const given = groupFromEnvironment();
  if (given) {
    // Without word of it all are on one machine.
    const here = Number(process.env.LOCAL_RANK ?? given.rank);
    const own = shareDevices(device, here, Math.max(here + 1, Number(process.env.LOCAL_WORLD_SIZE ?? 1)));
    const group = new ProcessGroup({ ...given, ...own });
    return { group, device: own.device, main: given.rank === 0, close: async () => group.close() };
  }
  if (nproc === undefined || nproc === 1) return alone;
  const own = shareDevices(device, 0, nproc);
  const port = await freePort();
  const threads = threadsOf(nproc);
  const children: ChildProcess[] = [];
  const ended: Promise<string | null>[] = [];
  for (let rank = 1; rank < nproc; rank++) {
    const child = spawn(process.execPath, process.argv.slice(1), {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        LOCAL_WORLD_SIZE: String(nproc),
        WORLD_SIZE: String(nproc),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: String(port),
        OMP_NUM_THREADS: String(threads),
      },
    });
    let text = "";
    child.stderr!.on("data", (d: Buffer) => (text = (text + d.toString()).slice(-4000)));
    children.push(child);
    ended.push(
      new Promise((done) => child.once("close", (code) => done(code === 0 ? null : `process ${rank} ended with ${code}: ${text.trim()}`))),
    );
  }
  const end = () => {
    for (const c of children) c.kill("SIGKILL");
  };
  process.once("exit", end);
  setThreads(threads);
  let group: ProcessGroup;
  try {
    group = new ProcessGroup({ ...own, rank: 0, worldSize: nproc, masterAddr: "127.0.0.1", masterPort: port, timeout: arrival });
  } catch (error) {
    end();
    const reasons = (await Promise.all(ended)).filter((r) => r !== null);
    throw new AnchorError("GROUP", reasons[0] ?? (error as Error).message, { cause: error });
  }
  return {
    group,
    device: own.device,
    main: true,
    close: async (failed) => {
      if (failed) end();
      const reasons = (await Promise.all(ended)).filter((r) => r !== null);
      group.close();
      process.off("exit", end);
      if (!failed && reasons.length > 0) throw new AnchorError("GROUP", reasons[0]!);
    },
  };
}
