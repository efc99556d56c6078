/** One thread that draws made-up people. */
import { parentPort, workerData } from "node:worker_threads";
import { setThreads } from "@make-your-anchor/torch";
import { filmPerson, type PeopleWork } from "./film.ts";

setThreads(1); // training needs the others
parentPort!.on("message", async (seed: number) => {
  try {
    parentPort!.postMessage({ seed, filmed: await filmPerson(seed, workerData as PeopleWork) });
  } catch (error) {
    parentPort!.postMessage({ seed, error: error instanceof Error ? error.message : String(error) });
  }
});
