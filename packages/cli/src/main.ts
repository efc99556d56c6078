/** The `anchor` command: parses, calls the library, prints. Heavy imports wait inside each command. */
import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { addAnimate } from "./commands/animate.ts";
import { addCreate } from "./commands/create.ts";
import { addDemo } from "./commands/demo.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addEvaluate } from "./commands/evaluate.ts";
import { addImport } from "./commands/import.ts";
import { addPretrain } from "./commands/pretrain.ts";
import { addPull } from "./commands/pull.ts";
import { addSetup } from "./commands/setup.ts";
import { addTrain } from "./commands/train.ts";
import { report } from "./run.ts";

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
const program = new Command("anchor");
program
  .description("personal 2D avatars from a minute of footage")
  .version(version)
  .showHelpAfterError('(see "anchor --help")')
  .showSuggestionAfterError();
program.exitOverride();
for (const add of [addDemo, addCreate, addTrain, addAnimate, addEvaluate, addPretrain, addImport, addPull, addSetup, addDoctor])
  add(program);
for (const command of program.commands) command.exitOverride();

// Who read our output has had enough ("anchor doctor | head").
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  // Commander has said what was wrong; help and version are no errors.
  process.exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? 0 : 2) : report(error, false, false);
}
// Worker threads and pipes may still be closing: what had to be done is done.
if (process.stdout.writableLength === 0) process.exit();
process.stdout.once("drain", () => process.exit());
