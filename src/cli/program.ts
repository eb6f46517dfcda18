import { readFileSync } from "node:fs";
import { Command } from "commander";
import type { CommandDefinition } from "./command.ts";
import { benchCommand } from "./commands/bench.ts";
import { checkCommand } from "./commands/check.ts";
import { dedupeCommand } from "./commands/dedupe.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { exportCommand } from "./commands/export.ts";
import { forgetCommand } from "./commands/forget.ts";
import { gcCommand } from "./commands/gc.ts";
import { generateCommand } from "./commands/generate.ts";
import { listCommand } from "./commands/list.ts";
import { planCommand } from "./commands/plan.ts";
import { rmCommand } from "./commands/rm.ts";
import { serveCommand } from "./commands/serve.ts";
import { showCommand } from "./commands/show.ts";
import { similarCommand } from "./commands/similar.ts";
import { splitCommand } from "./commands/split.ts";
import { tenantAddCommand } from "./commands/tenant-add.ts";
import { tenantListCommand } from "./commands/tenant-list.ts";
import { tenantRmCommand } from "./commands/tenant-rm.ts";
import { tenantRotateCommand } from "./commands/tenant-rotate.ts";
import { verifyCommand } from "./commands/verify.ts";
import type { GlobalOptions } from "./context.ts";

/** In the order a user meets them. */
export const COMMANDS: CommandDefinition[] = [
  splitCommand,
  dedupeCommand,
  similarCommand,
  listCommand,
  showCommand,
  verifyCommand,
  exportCommand,
  generateCommand,
  serveCommand,
  tenantAddCommand,
  tenantListCommand,
  tenantRotateCommand,
  tenantRmCommand,
  forgetCommand,
  planCommand,
  benchCommand,
  checkCommand,
  gcCommand,
  rmCommand,
  doctorCommand,
];

/** What the commands of two words have in common, by their first. */
const GROUPS: Record<string, string> = { tenant: "who may use a server: keys, models, limits" };

/** A command line that was understood. */
export interface Invocation {
  command: CommandDefinition;
  operands: string[];
  options: object;
  globals: GlobalOptions;
}

/**
 * The whole command line as commander sees it; `invoke` gets what was typed. Throws CommanderError for help, version and
 * wrong usage instead of leaving the process.
 */
export function buildProgram(invoke: (invocation: Invocation) => Promise<void>): Command {
  const program = new Command("blockllm")
    .description(
      "Split fine-tuned ONNX language models into blocks, keep every distinct block once, serve them together.",
    )
    .version(readVersion())
    .option("--repo <folder>", "block repository (default: $BLOCKLLM_REPO, else ./blocks)")
    .option("--json", "print the command's value as one JSON document on stdout, nothing else")
    .option("--quiet", "no progress on stderr")
    .option("--no-color", "no colours")
    .addHelpText(
      "after",
      "\nExit codes: 0 done, 1 failed, 2 wrong usage or bad input, 3 a gate was not met, 130 interrupted.",
    )
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  for (const definition of COMMANDS) addCommand(program, definition, invoke);
  return program;
}

function addCommand(
  program: Command,
  definition: CommandDefinition,
  invoke: (invocation: Invocation) => Promise<void>,
): void {
  const examples = definition.examples.map((example) => `  ${example}`).join("\n");
  const { parent, usage } = placeOf(program, definition.usage);
  const command = parent.command(usage).description(definition.summary).addHelpText("after", `\nExample:\n${examples}`);
  for (const { flags, help, parse } of definition.options) {
    if (parse === undefined) command.option(flags, help);
    else command.option(flags, help, parse);
  }
  command.action(async () => {
    const operands = command.processedArgs.flat().filter((operand) => operand !== undefined) as string[];
    await invoke({ command: definition, operands, options: command.opts(), globals: program.opts() });
  });
}

/** `tenant add <name>` is the command `add <name>` of the command `tenant`, which does nothing itself. */
function placeOf(program: Command, usage: string): { parent: Command; usage: string } {
  const [first, second] = usage.split(" ");
  if (second === undefined || /^[<[]/.test(second)) return { parent: program, usage };
  const known = program.commands.find((command) => command.name() === first);
  const parent = known ?? program.command(first!).description(GROUPS[first!] ?? "");
  return { parent, usage: usage.slice(first!.length + 1) };
}

function readVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
