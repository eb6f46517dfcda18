import { parentPort } from "node:worker_threads";
import { BlockllmError } from "../support/errors.ts";
import { freeBuffers } from "../support/free-buffers.ts";
import { reasonOf } from "../support/reason.ts";
import type { EngineConfig } from "./engine-config.ts";
import { packError, packEvent, type FromWorker, type ToWorker } from "./engine-messages.ts";
import { Engine, type EngineParts } from "./engine.ts";
import type { LoadedModels } from "./load-models.ts";
import { requireDocuments } from "./require-documents.ts";

/** The worker's end of an EngineClient: loads, says `ready`, runs until told to close; says `failed` where it cannot. */
export async function serveInThread(config: EngineConfig, load: () => Promise<LoadedModels>): Promise<void> {
  const endNow = ({ type }: ToWorker): void => void (type === "close" && process.exit(0));
  parentPort!.on("message", endNow);
  try {
    const loaded = await load();
    parentPort!.off("message", endNow);
    await serve(config, loaded);
  } catch (error) {
    post({ type: "failed", error: packError(asKnown(error)) });
  }
  parentPort!.close();
}

async function serve(config: EngineConfig, loaded: LoadedModels): Promise<void> {
  const engine = new Engine({
    ...loaded,
    config,
    ...batchedReports(),
  });
  const changes = new ModelChanges(engine, loaded);
  parentPort!.on("message", (message: ToWorker) => handle(engine, changes, message));
  const isLoaded = await engine.preload();
  freeBuffers();
  if (isLoaded) post({ type: "ready", models: loaded.models });
  await engine.run();
  await engine.close();
}

function handle(engine: Engine, changes: ModelChanges, message: ToWorker): void {
  switch (message.type) {
    case "submit":
      return engine.submit(message.id, message.request);
    case "cancel":
      return engine.cancel(message.id);
    case "stats":
      return void changes.adopted.then(() => post({ type: "stats", id: message.id, stats: engine.stats() }));
    case "forget":
      return post({ type: "forgot", id: message.id, bytes: engine.forgetPrefixes(message.owner) });
    case "change":
      return changes.add(message);
    case "commit":
      return changes.commit();
    case "close":
      return engine.stop();
  }
}

/** One change of models after the other, while the engine goes on. */
class ModelChanges {
  readonly #engine: Engine;
  readonly #loaded: LoadedModels;
  #last: Promise<void> = Promise.resolve();
  #commit: () => void = () => {};
  /** Until then the engine's figures are those of models that are not served any more. */
  adopted: Promise<void> = Promise.resolve();

  constructor(engine: Engine, loaded: LoadedModels) {
    this.#engine = engine;
    this.#loaded = loaded;
  }

  add(asked: ToWorker & { type: "change" }): void {
    this.#last = this.#last.then(async () => this.#change(asked));
  }

  /** Before the next message is handled: a request in it is for the new models. */
  commit(): void {
    this.#commit();
  }

  async #change({ id, models, documents, graceSeconds }: ToWorker & { type: "change" }): Promise<void> {
    try {
      if (!this.#loaded.change)
        throw new BlockllmError("usage", "these models cannot be changed while they are served");
      const next = await this.#loaded.change(models, () => this.#engine.liveModels());
      if (documents) requireDocuments(next.models, documents);
      await this.#engine.prepare(next);
      await new Promise<void>((resolve, reject) => {
        this.#commit = () => {
          this.adopted = this.#engine.adopt(next, graceSeconds);
          this.adopted.then(resolve, reject);
        };
        post({ type: "prepared", id, models: next.models });
      });
    } catch (error) {
      post({ type: "unchanged", id, error: packError(asKnown(error)) });
    }
  }
}

function asKnown(error: unknown): BlockllmError {
  return error instanceof BlockllmError ? error : new BlockllmError("engine_failed", reasonOf(error));
}

/** A step settles all its sequences at once: what is to be told of it leaves as one message. */
function batchedReports(): Required<Pick<EngineParts, "report" | "onLeftQueue">> {
  type Events = FromWorker & { type: "events" };
  let batch: Events | null = null;
  const openBatch = (): Events => {
    if (batch === null) {
      queueMicrotask(() => {
        post(batch!);
        batch = null;
      });
    }
    return (batch ??= { type: "events", events: [], started: [] });
  };
  return {
    report: (id, event) => void openBatch().events.push([id, packEvent(event)]),
    onLeftQueue: (id) => void openBatch().started.push(id),
  };
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message, []);
}
