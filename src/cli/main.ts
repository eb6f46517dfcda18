// oxlint-disable-next-line import/no-unassigned-import -- it must come first
import "../support/no-telemetry.ts";
import { CommanderError } from "commander";
import { BlockllmError } from "../support/errors.ts";
import { createContext } from "./context.ts";
import { renderJson } from "./output/json.ts";
import { buildProgram, type Invocation } from "./program.ts";
import { reportError, reportVerdict } from "./report-error.ts";

process.stdout.on("error", leaveQuietlyWhenNobodyReads);
process.exitCode = await runCommandLine(process.argv.slice(2));

async function runCommandLine(typed: string[]): Promise<number> {
  let exitCode = 0;
  const signal = abortOnSignals();
  const program = buildProgram(async (invocation) => {
    exitCode = await runCommand(invocation, signal);
  });
  try {
    if (typed.length === 0) program.outputHelp();
    else await program.parseAsync(typed, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return reportError(signal.aborted ? signal.reason : error, typed.includes("--json"));
  }
}

async function runCommand({ command, operands, options, globals }: Invocation, signal: AbortSignal): Promise<number> {
  const context = createContext(globals, signal);
  try {
    const value = (await command.run(context, operands, options)) ?? undefined;
    if (value === undefined) return 0;
    if (context.json) process.stdout.write(`${renderJson(value)}\n`);
    else if (command.print !== undefined) process.stdout.write(`${command.print(value, options)}\n`);
    const verdict = command.verdict?.(value) ?? null;
    return verdict === null ? 0 : reportVerdict(verdict);
  } catch (error) {
    context.progress.fail();
    throw error;
  }
}

/** The first signal asks the command to stop; the second leaves at once, which the repository survives. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new BlockllmError("interrupted", `stopped by ${name}`));
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return controller.signal;
}

/** `blockllm list | head` closes the pipe early; that is not an error of ours. */
function leaveQuietlyWhenNobodyReads(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
}
