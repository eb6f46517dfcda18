import { CommanderError } from "commander";
import { readEnvironment } from "../support/env.ts";
import { BlockllmError } from "../support/errors.ts";
import { renderJson } from "./output/json.ts";

/** Says what went wrong, in the form asked for, and gives the exit code. A bug shows its stack and asks for a report. */
export function reportError(error: unknown, json: boolean): number {
  const expected = toExpectedError(error);
  if (expected === null) {
    const { code, message, hint } = BUG;
    if (json)
      process.stdout.write(`${renderJson({ error: { code, message: `${message}: ${String(error)}`, hint } })}\n`);
    process.stderr.write(`${describeWithCauses(error)}\n\n${message}. ${hint}\n`);
    return 1;
  }
  if (json) {
    const { code, message, hint } = expected;
    process.stdout.write(`${renderJson({ error: { code, message, hint: hint ?? null } })}\n`);
  }
  return reportVerdict(expected);
}

/** On stderr alone: stdout has, or will have, what `--json` promises. Gives the exit code. */
export function reportVerdict(error: BlockllmError): number {
  process.stderr.write(`error ${error.code}: ${error.message}\n`);
  if (error.hint !== undefined) process.stderr.write(`  ${error.hint}\n`);
  if (debugAsked()) process.stderr.write(`${describeWithCauses(error)}\n`);
  return error.exitCode;
}

const BUG = {
  code: "internal",
  message: "this is a bug in blockllm",
  hint: "Please report it with the text above, the command, and what `blockllm doctor` prints.",
};

/** null: nobody foresaw this. */
function toExpectedError(error: unknown): BlockllmError | null {
  if (error instanceof BlockllmError) return error;
  if (error instanceof CommanderError) {
    // A group of commands without the second word.
    const message = error.code === "commander.help" ? "the command is not complete" : error.message;
    return new BlockllmError("usage", message.replace(/^error: /, "").replaceAll("\n", " "), {
      hint: "blockllm --help lists the commands; blockllm <command> --help shows one with an example",
    });
  }
  if (isSystemError(error)) {
    if (error.code === "ENOSPC" || error.code === "EDQUOT") {
      return new BlockllmError("out_of_space", error.message, {
        hint: "free some space and run it again",
        cause: error,
      });
    }
    return new BlockllmError("io_failed", error.message, { cause: error });
  }
  return null;
}

/** What the operating system refused, on a file a user named. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "path" in error && "code" in error;
}

function describeWithCauses(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error.stack ?? String(error);
  return error.cause === undefined ? own : `${own}\ncaused by: ${describeWithCauses(error.cause)}`;
}

/** A bad BLOCKLLM_DEBUG is reported where the environment is first read, not while reporting another error. */
function debugAsked(): boolean {
  try {
    return readEnvironment().debug;
  } catch (error) {
    if (error instanceof BlockllmError && error.code === "usage") return false;
    throw error;
  }
}
