/**
 * What models take in memory, by the rule that `--memory` counts with (src/engine/memory/session-bytes.ts) and measured;
 * how long segments take to load; what is left when they are unloaded.
 *
 *   npx tsx bench/memory.ts [--folder <where to write>] [--json]
 *
 * The sessions are the engine's, in this process. Every number of memory is PSS beyond what the process took before.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { engineConfig } from "../src/engine/engine-config.ts";
import { openModels } from "../src/engine/load-models.ts";
import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { makeModels, type Tenant } from "./make-models.ts";
import { machine, proportionalSetBytes } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { inWorkFolder } from "./work-folder.ts";

const MB = 1e6;
const PROMPT_ROWS = 256;
const TENANTS: Tenant[] = ["base", "last-layers", "full"];

const { values } = parseArgs({
  options: {
    folder: { type: "string", default: tmpdir() },
    json: { type: "boolean", default: false },
  },
});

interface MemoryReport {
  machine: ReturnType<typeof machine>;
  segments: number;
  counted: number;
  loaded: number;
  /** After every segment ran on a full batch: allocators keep what that took. */
  used: number;
  unloaded: number;
  loadSeconds: number;
  /** Of one segment: nobody is served meanwhile. */
  longestLoadSeconds: number;
}

const report = await inWorkFolder(values.folder, measureMemory);
if (values.json) console.log(JSON.stringify(report, null, 2));
else print(report);

async function measureMemory(folder: string): Promise<MemoryReport> {
  const models = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: TENANTS });
  const store = await openRepository(join(folder, "blocks"), { create: true });
  for (const model of models) await addModel(store, model.folder);
  const config = engineConfig({ maxBatchTokens: PROMPT_ROWS, prefillChunk: PROMPT_ROWS - 1 });
  const opened = await openModels(store, "all", config);
  const sessions = [...new Set([...opened.executor.needs.values()].flat())];
  const before = proportionalSetBytes();
  const seconds: number[] = [];
  for (const session of sessions) {
    const began = performance.now();
    await session.load();
    seconds.push((performance.now() - began) / 1000);
  }
  const loaded = proportionalSetBytes() - before;
  for (const [sequence, { key }] of opened.models.entries()) {
    opened.executor.open(sequence, { model: key, maxTokens: PROMPT_ROWS });
    const tokens = Array.from({ length: PROMPT_ROWS }, (_, at) => (at * 31) % SMOLLM2_135M.vocabulary);
    await opened.executor.execute([{ sequence, tokens, start: 0, logits: "last", stepwise: false }]);
    opened.executor.release(sequence);
  }
  const used = proportionalSetBytes() - before;
  for (const session of sessions) await session.unload();
  return {
    machine: machine(),
    segments: sessions.length,
    counted: sessions.reduce((sum, { bytes }) => sum + bytes, 0),
    loaded,
    used,
    unloaded: proportionalSetBytes() - before,
    loadSeconds: seconds.reduce((sum, one) => sum + one, 0),
    longestLoadSeconds: Math.max(...seconds),
  };
}

function print(measured: MemoryReport): void {
  const { segments, counted, loaded, used, unloaded, loadSeconds, longestLoadSeconds } = measured;
  const megabytes = (bytes: number): string => (bytes / MB).toFixed(0);
  const table = new Table({ head: ["", "MB"], style: { head: [], border: [] }, colAligns: ["left", "right"] });
  table.push(["counted by --memory", megabytes(counted)]);
  table.push(["loaded", megabytes(loaded)]);
  table.push([`and used on ${PROMPT_ROWS} rows`, megabytes(used)]);
  table.push(["unloaded again", megabytes(unloaded)]);
  console.log(table.toString());
  console.log(
    `${segments} segments of ${TENANTS.length} models loaded in ${loadSeconds.toFixed(2)} s, the longest in ${longestLoadSeconds.toFixed(2)} s`,
  );
}
