import type { BlockllmError } from "../support/errors.ts";
import type { CommandContext } from "./context.ts";

/** One command: how it is typed, what it does, how its value looks to a person. `--json` prints the value as it is. */
export interface CommandDefinition<Options = object, Value = unknown> {
  /** Name and arguments in commander's notation: `split <path...>`. */
  usage: string;
  summary: string;
  options: OptionDefinition[];
  /** Command lines for `--help`, the most useful one first. */
  examples: string[];
  /** `undefined`: there is nothing to print, the command spoke while it ran. */
  run(context: CommandContext, operands: string[], options: Options): Promise<Value>;
  print?(value: NonNullable<Value>, options: Options): string;
  /** For a command that did its work and then judges it (a gate, a check): what to say on stderr and exit with. */
  verdict?(value: NonNullable<Value>): BlockllmError | null;
}

export interface OptionDefinition {
  /** In commander's notation: `--max-tokens <count>`. */
  flags: string;
  help: string;
  /** Turns the text into a value; `before` is the one it had when the option was given already. Throws `usage`. */
  parse?: (text: string, before: unknown) => unknown;
}

/** Keeps the types of options and value inside the command; the list of commands need not know them. */
export function defineCommand<Options, Value>(definition: CommandDefinition<Options, Value>): CommandDefinition {
  return definition as unknown as CommandDefinition;
}
