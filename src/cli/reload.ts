import type { Log } from "../support/log.ts";

/** Something a running server can read again. */
export interface Reloadable {
  /** For the log: "tenants". */
  what: string;
  /** What says that it changed. */
  file: string;
  /** Reads it again and gives a line that says what is now so. What it throws is logged, and the old stays. */
  reload(): Promise<string>;
}

export interface Reloading {
  /** Has these read again, one after the other and in their order; what is asked for meanwhile leads to one more turn. */
  ask(which: readonly Reloadable[]): void;
  /** Waits for the turn that runs; later ones do not come. */
  stop(): Promise<void>;
}

/** Requests go on meanwhile. */
export function startReloading(reloadables: readonly Reloadable[], log: Log): Reloading {
  const due = new Set<Reloadable>();
  let running: Promise<void> | null = null;
  const work = async (): Promise<void> => {
    for (let next = first(due); next; next = first(due)) {
      due.delete(next);
      await reloadOne(next, log);
    }
    running = null;
  };
  const first = (some: ReadonlySet<Reloadable>) => reloadables.find((one) => some.has(one));
  let open = true;
  return {
    ask: (which) => {
      if (!open) return;
      for (const one of which) due.add(one);
      running ??= work();
    },
    stop: async () => {
      open = false;
      due.clear();
      await running;
    },
  };
}

/** Everything again at each SIGHUP. Gives a function that stops listening. */
export function reloadOnHangup(reloadables: readonly Reloadable[], reloading: Reloading): () => void {
  const onSignal = (): void => reloading.ask(reloadables);
  process.on("SIGHUP", onSignal);
  return () => void process.off("SIGHUP", onSignal);
}

async function reloadOne(one: Reloadable, log: Log): Promise<void> {
  try {
    log.info(`${one.what} read again: ${await one.reload()}`);
  } catch (error) {
    log.error(`${one.what} could not be read again and stay as they were`, error);
  }
}
