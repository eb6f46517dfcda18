/**
 * What one call of a transformer layer's segment costs at SmolLM2-135M's shapes, by rows, by adapters and by how the
 * runtime's threads wait; how fast weights come from memory meanwhile.
 *
 *   npx tsx bench/layer.ts [--rows 1,2,14] [--adapters 0,3] [--repeats 5] [--layers 6] [--alone] [--json]
 *
 * --alone: short bursts at real-time priority (root), for machines that others use.
 */
import { InferenceSession } from "onnxruntime-node";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { timeBurst } from "./burst.ts";
import { LAYER_BYTES, layerFeeds, layerModel } from "./layer-graph.ts";
import { machine, showSpread, spreadOf, type Spread } from "./measure.ts";

const BURST_MILLISECONDS = 60;
const WAITS = {
  "1 thread": { threads: 1, spin: 0 },
  "2 threads": { threads: 2, spin: 0 },
  "2, spin 20 µs": { threads: 2, spin: 20 },
};

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "1,2,14" },
    adapters: { type: "string", default: "0,3" },
    repeats: { type: "string", default: "5" },
    layers: { type: "string", default: "6" },
    alone: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

interface LayerTime {
  rows: number;
  adapters: number;
  wait: keyof typeof WAITS;
  /** Of one layer. */
  milliseconds: Spread;
  processorMilliseconds: Spread;
}

const measured = await measureLayers();
if (values.json) console.log(JSON.stringify({ machine: machine(), layers: measured }, null, 2));
else print(measured);

async function measureLayers(): Promise<LayerTime[]> {
  const layers = Number(values.layers);
  const cases: { rows: number; adapters: number; wait: keyof typeof WAITS; call: () => Promise<void> }[] = [];
  for (const adapters of values.adapters.split(",").map(Number)) {
    for (const wait of Object.keys(WAITS) as (keyof typeof WAITS)[]) {
      const sessions: InferenceSession[] = [];
      for (let layer = 0; layer < layers; layer++) sessions.push(await openLayer(layer, adapters, wait));
      for (const rows of values.rows.split(",").map(Number)) {
        const feeds = layerFeeds(rows, adapters);
        const call = async (): Promise<void> => {
          for (const session of sessions) await session.run(feeds);
        };
        cases.push({ rows, adapters, wait, call });
      }
    }
  }
  const times = cases.map((): { wall: number; processor: number }[] => []);
  for (let repeat = 0; repeat < Number(values.repeats); repeat++)
    for (const [at, { call }] of cases.entries())
      times[at]!.push(await timeBurst(call, { milliseconds: BURST_MILLISECONDS, alone: values.alone }));
  return cases.map(({ rows, adapters, wait }, at) => ({
    rows,
    adapters,
    wait,
    milliseconds: spreadOf(times[at]!.map(({ wall }) => wall / layers)),
    processorMilliseconds: spreadOf(times[at]!.map(({ processor }) => processor / layers)),
  }));
}

async function openLayer(layer: number, adapters: number, wait: keyof typeof WAITS): Promise<InferenceSession> {
  const { threads, spin } = WAITS[wait];
  const options = runtimeOptions(threads);
  const session = options.extra!["session"] as Record<string, unknown>;
  if (spin > 0) session["intra_op"] = { allow_spinning: "1", spin_duration_us: String(spin) };
  return await InferenceSession.create(
    writeModel(layerModel(layer, adapters), () => null),
    options,
  );
}

function print(times: LayerTime[]): void {
  const { cpu, threads, memoryGB, node } = machine();
  console.log(`${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; medians (least–most)`);
  const table = new Table({
    head: ["rows", "adapters", "threads", "ms a layer", "processor ms", "GB of weights/s"],
    style: { head: [], border: [] },
  });
  for (const { rows, adapters, wait, milliseconds, processorMilliseconds } of times)
    table.push([
      rows,
      adapters,
      wait,
      showSpread(milliseconds, 2),
      showSpread(processorMilliseconds, 2),
      (LAYER_BYTES / milliseconds.median / 1e6).toFixed(1),
    ]);
  console.log(table.toString());
}
