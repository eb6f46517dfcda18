/** Lines for whoever runs the server. Never prompts, answers or keys. */
export interface Log {
  info(message: string): void;
  error(message: string, error: unknown): void;
}

/** Writes `time level message` lines; an error with its stack and causes. */
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
  const cause = error.cause === undefined ? "" : `\ncaused by ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
