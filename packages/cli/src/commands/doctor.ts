import type { Command } from "commander";
import { print, printJson } from "../terminal.ts";
import { run } from "../run.ts";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("say what is here, what is missing and how to get it, and which licences apply")
    .option("--json", "print the result as JSON")
    .action((o: { json?: boolean }) =>
      run(o, async (c) => {
        const { diagnose } = await import("@make-your-anchor/anchor/doctor");
        const d = await diagnose();
        if (!d.ok) process.exitCode = 1;
        if (c.json) return printJson(d);
        for (const check of d.checks) {
          print(`${check.ok ? "ok     " : check.optional ? "absent " : "MISSING"} ${check.what}: ${check.detail}`);
          if (!check.ok && check.wayOut) print(`        ${check.wayOut}`);
        }
        print("licences:");
        for (const l of d.licences) print(`  ${l.what}: ${l.licence} (${l.use})`);
      }),
    );
}
