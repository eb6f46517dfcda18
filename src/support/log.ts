import { BlockllmError } from "./errors.ts";

/** Lines for whoever runs the server. Never prompts, answers or keys. */
export interface Log {
  info(message: string): void;
  error(message: string, error: unknown): void;
}

/** Writes `time level message` lines; a bug with its stack and causes, what people can cause with its code. */
export function createLog(write: (line: string) => void, now: () => Date = () => new Date()): Log {
  const line = (level: string, message: string): void => write(`${now().toISOString()} ${level} ${message}\n`);
  return {
    info: (message) => line("info", message),
    error: (message, error) => line("error", `${message}: ${describe(error)}`),
  };
}

/** For tests and for those who want none. */
export const SILENT_LOG: Log = { info: () => {}, error: () => {} };

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof BlockllmError) return `${error.code}: ${error.message}`;
  const cause = error.cause === undefined ? "" : `\ncaused by ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
