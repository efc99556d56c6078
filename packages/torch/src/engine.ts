/** Facts and settings of the loaded libtorch. */
import { native, type NativeInfo } from "./native.ts";

/** libtorch's version, its threads, and whether it can use CUDA. */
export const engineInfo = (): NativeInfo => native.info();

/** How many threads one operator may use. */
export function setThreads(n: number): void {
  native.setThreads(n);
}
