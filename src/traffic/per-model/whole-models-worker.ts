import { workerData } from "node:worker_threads";
import { serveInThread } from "../../engine/serve-in-thread.ts";
import { loadWholeModels } from "./load-whole-models.ts";
import type { WholeModelsStart } from "./start-whole-models.ts";

const start = workerData as WholeModelsStart;

await serveInThread(start.config, async () => await loadWholeModels(start));
