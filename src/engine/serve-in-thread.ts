import { parentPort } from "node:worker_threads";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import type { EngineConfig } from "./engine-config.ts";
import { packError, packEvent, type FromWorker, type ToWorker } from "./engine-messages.ts";
import { Engine } from "./engine.ts";
import type { LoadedModels } from "./load-models.ts";

/** The worker's end of an EngineClient: loads, says `ready`, runs until told to close; says `failed` where it cannot. */
export async function serveInThread(config: EngineConfig, load: () => Promise<LoadedModels>): Promise<void> {
  try {
    await serve(config, await load());
  } catch (error) {
    const known = error instanceof BlockllmError ? error : new BlockllmError("engine_failed", reasonOf(error));
    post({ type: "failed", error: packError(known) });
  }
  parentPort!.close();
}

async function serve(config: EngineConfig, loaded: LoadedModels): Promise<void> {
  const engine: Engine = new Engine({
    ...loaded,
    config,
    report: batchedReport(() => engine.stats().running),
  });
  parentPort!.on("message", (message: ToWorker) => handle(engine, message));
  post({ type: "ready", models: loaded.models });
  await engine.run();
  await engine.close();
}

function handle(engine: Engine, message: ToWorker): void {
  switch (message.type) {
    case "submit":
      return engine.submit(message.id, message.request);
    case "cancel":
      return engine.cancel(message.id);
    case "stats":
      return post({ type: "stats", id: message.id, stats: engine.stats() });
    case "close":
      return engine.stop();
  }
}

/** A step settles all its sequences at once: their events leave as one message. */
function batchedReport(running: () => number): ConstructorParameters<typeof Engine>[0]["report"] {
  let events: (FromWorker & { type: "events" })["events"] = [];
  return (id, event) => {
    if (events.length === 0) {
      queueMicrotask(() => {
        post({ type: "events", events, running: running() });
        events = [];
      });
    }
    events.push([id, packEvent(event)]);
  };
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message, []);
}
