import type { Log } from "../support/log.ts";

/** Something a running server can read again. */
export interface Reloadable {
  /** For the log: "tenants". */
  what: string;
  /** Reads it again and gives a line that says what is now so. What it throws is logged, and the old stays. */
  reload(): Promise<string>;
}

/**
 * Reads everything again at each SIGHUP, one after the other; signals that come meanwhile lead to one more round.
 * Requests go on. Gives a function that stops listening and waits for a round that runs.
 */
export function reloadOnHangup(reloadables: readonly Reloadable[], log: Log): () => Promise<void> {
  let running: Promise<void> | null = null;
  let again = false;
  const rounds = async (): Promise<void> => {
    do {
      again = false;
      for (const one of reloadables) await reloadOne(one, log);
    } while (again);
    running = null;
  };
  const onSignal = (): void => {
    again = true;
    running ??= rounds();
  };
  process.on("SIGHUP", onSignal);
  return async () => {
    process.off("SIGHUP", onSignal);
    again = false;
    await running;
  };
}

async function reloadOne(one: Reloadable, log: Log): Promise<void> {
  try {
    log.info(`${one.what} read again: ${await one.reload()}`);
  } catch (error) {
    log.error(`${one.what} could not be read again and stay as they were`, error);
  }
}
