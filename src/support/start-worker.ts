import { Worker, type WorkerOptions } from "node:worker_threads";

/** V8 takes 48 by itself. A step makes little garbage besides what lies outside the heap: collecting takes as long (measured). */
const YOUNG_GENERATION_MB = 12;

/** A thread of the engine. Built files run as they are. From TypeScript sources (tests, tsx) the thread must first learn to load them. */
export function startWorker(script: URL, workerData: unknown): Worker {
  const options: WorkerOptions = { workerData, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB } };
  if (script.href.endsWith(".js")) return new Worker(script, options);
  const loader = JSON.stringify(import.meta.resolve("tsx/esm/api"));
  const file = JSON.stringify(script.href);
  return new Worker(`import(${loader}).then(({ register }) => (register(), import(${file})))`, {
    eval: true,
    ...options,
  });
}
