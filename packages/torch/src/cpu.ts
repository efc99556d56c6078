/** Which of OpenBLAS's kernels this processor can run. */
import { readFileSync } from "node:fs";

/**
 * OpenBLAS picks its kernels by the processor's model number, and one that is newer than itself gets those of 2004: Debian's 0.3.21 computes at
 * half the speed on a Xeon of 2023 (measured: docs/design/engine.md). What the processor can do tells better.
 * @param flags of /proc/cpuinfo, between spaces
 * @returns a name for OPENBLAS_CORETYPE; undefined: let OpenBLAS choose
 */
export function openBlasCore(flags: string): "SkylakeX" | "Haswell" | undefined {
  const has = new Set(flags.split(/\s+/));
  const all = (...names: string[]) => names.every((n) => has.has(n));
  if (all("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")) return "SkylakeX";
  return all("avx2", "fma") ? "Haswell" : undefined;
}

/** The flags of this machine's first processor; empty where the system does not tell. */
export function processorFlags(): string {
  try {
    return /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1].trim() ?? "";
  } catch {
    return "";
  }
}
