import { readEnvironment } from "../support/env.ts";
import { BlockllmError } from "../support/errors.ts";
import { createProgress, type Progress } from "./output/spinner.ts";

/** What every command gets: where the repository is, how to speak, when to stop. */
export interface CommandContext {
  repositoryPath: string;
  json: boolean;
  quiet: boolean;
  color: boolean;
  /** Aborts with BlockllmError `interrupted` on the first SIGINT or SIGTERM. */
  signal: AbortSignal;
  progress: Progress;
  /** Text for stdout as it comes (streamed answers); the command's value is printed by the runner. */
  write: (text: string) => void;
}

export interface GlobalOptions {
  repo?: string;
  json?: boolean;
  quiet?: boolean;
  color?: boolean;
}

/** Throws `usage` for an empty --repo: what a shell makes of a variable that is not set would be the folder one is in. */
export function createContext(options: GlobalOptions, signal: AbortSignal): CommandContext {
  const environment = readEnvironment();
  if (options.repo === "") {
    throw new BlockllmError("usage", "--repo is empty; it must name a folder", {
      hint: `leave it out for ${environment.repository}`,
    });
  }
  const color = options.color !== false && !environment.noColor && process.stderr.isTTY === true;
  const quiet = options.quiet === true;
  const interactive = process.stderr.isTTY === true && !environment.continuousIntegration;
  return {
    repositoryPath: options.repo ?? environment.repository,
    json: options.json === true,
    quiet,
    color,
    signal,
    progress: createProgress({ quiet, color, interactive }),
    write: (text) => void process.stdout.write(text),
  };
}
