/** Sets the engine up in projects that installed the packages. Loads no engine. */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { AnchorError } from "./errors.ts";

/**
 * Installs what the engine needs (on Debian and Ubuntu, with root or sudo: libtorch, ffmpeg, a compiler) and builds its addon; seconds when
 * nothing is to do. It says on stderr what it installs. `LIBTORCH`, `LIBTORCH_USE_PYTORCH=1` and `LIBTORCH_DOWNLOAD` choose another libtorch.
 * @throws {AnchorError} `SETUP` when it fails; what failed stands on stderr
 */
export async function setUp(options: { signal?: AbortSignal } = {}): Promise<void> {
  const script = createRequire(import.meta.url).resolve("@make-your-anchor/torch/setup.sh");
  const child = spawn("bash", [script], { stdio: ["inherit", 2, "inherit"], signal: options.signal });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", (cause) =>
      reject(
        (cause as NodeJS.ErrnoException).code === "ENOENT"
          ? new AnchorError("SETUP", "set-up is a bash script, and bash was not found: install bash", { cause })
          : cause,
      ),
    );
    child.on("close", resolve);
  });
  if (status !== 0) throw new AnchorError("SETUP", "set-up failed: see above; the same command goes on where it stopped");
}
