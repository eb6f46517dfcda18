import { workerData } from "node:worker_threads";
import { openRepository } from "../store/open-repository.ts";
import type { WorkerStart } from "./engine-messages.ts";
import { openModels } from "./load-models.ts";
import { serveInThread } from "./serve-in-thread.ts";

/** The thread that owns all sessions and caches. engine-client.ts starts it. */
const start = workerData as WorkerStart;

await serveInThread(start.config, async () =>
  openModels(await openRepository(start.repository), start.models, start.config),
);
