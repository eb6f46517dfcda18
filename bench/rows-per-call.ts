/**
 * What one row costs in a projection, by how many rows a call has: what sharing a block between tenants can gain at most.
 *
 *   npx tsx bench/rows-per-call.ts [--rows 1,2,4,8,10,16,32] [--threads n] [--repeats 20] [--json]
 *
 * Processor time of all threads, for the projections of a SmolLM2-135M layer one after the other.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { InferenceSession, Tensor } from "onnxruntime-node";

import type { OnnxModel, TensorInfo } from "../src/onnx/model.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { processorMilliseconds } from "./decode-sides.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { machine } from "./measure.ts";
import { layerLinears, SMOLLM2_135M } from "./model-graph.ts";
import { addLinear, linearWeights, type Linear, type Precision } from "./model-linear.ts";
import { valuesOf } from "./weight-values.ts";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "1,2,4,8,10,16,32" },
    threads: { type: "string", default: String(availableParallelism()) },
    repeats: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});

const ROWS = values.rows.split(",").map(Number);
const PRECISIONS: Precision[] = ["fp32", "int8", "int4"];
/** A model's weights do not fit into the caches of a processor, one layer's do. */
const LAYERS = 8;

const costs: Record<string, number[]> = {};
for (const precision of PRECISIONS) costs[precision] = await costPerRow(precision);
if (values.json) console.log(JSON.stringify({ machine: machine(), rows: ROWS, microseconds: costs }, null, 2));
else print();

/** Microseconds of a layer's projections per row, for each number of rows. */
async function costPerRow(precision: Precision): Promise<number[]> {
  const sessions = await Promise.all(Array.from({ length: LAYERS }, (_, layer) => layerSession(precision, layer)));
  const perRow: number[] = [];
  for (const rows of ROWS) {
    const feeds = feedsOf(rows);
    for (const session of sessions) await session.run(feeds);
    const started = processorMilliseconds();
    for (let repeat = 0; repeat < Number(values.repeats); repeat++)
      for (const session of sessions) await session.run(feeds);
    perRow.push(((processorMilliseconds() - started) * 1000) / Number(values.repeats) / LAYERS / rows);
  }
  for (const session of sessions) await session.release();
  return perRow;
}

async function layerSession(precision: Precision, layer: number): Promise<InferenceSession> {
  const graph = new GraphBuilder();
  const { qkv, o, gate, up, down } = layerLinears(SMOLLM2_135M, layer);
  const linears = [qkv, o, gate, up, down];
  const outputs = linears.map((linear) => ({
    name: addLinear(graph, { input: inputOf(linear), linear, form: { precision, factors: false } }),
    dtype: "float32" as const,
    dims: [1, "N", linear.widths[1]],
  }));
  const weights = linears.flatMap((linear) => linearWeights(linear, precision));
  const initializers = new Map(
    weights.map((weight): [string, TensorInfo] => {
      const { buffer } = valuesOf(weight, { width: 0, seed: weight.name });
      const { name, dtype, dims } = weight;
      return [name, { name, dtype, dims, data: { kind: "bytes", bytes: new Uint8Array(buffer) } }];
    }),
  );
  const inputs = [...new Set(linears.map(inputOf))].map((name) => ({
    name,
    dtype: "float32" as const,
    dims: [1, "N", Number(name.slice(1))],
  }));
  const model: OnnxModel = {
    irVersion: 10,
    producer: "bench",
    opsets: new Map([
      ["", 21],
      ["com.microsoft", 1],
    ]),
    graph: { name: "projections", nodes: graph.nodes, initializers, inputs, outputs },
    functions: new Map(),
  };
  return await InferenceSession.create(writeModel(model), runtimeOptions(Number(values.threads)));
}

function inputOf({ widths }: Linear): string {
  return `x${widths[0]}`;
}

function feedsOf(rows: number): Record<string, Tensor> {
  const { hidden, inner } = SMOLLM2_135M;
  return Object.fromEntries(
    [hidden, inner].map((width) => {
      const data = Float32Array.from({ length: rows * width }, (_, at) => Math.sin(at));
      return [`x${width}`, new Tensor("float32", data, [1, rows, width])];
    }),
  );
}

function print(): void {
  const { cpu, node } = machine();
  console.log(`${cpu}, ${values.threads} threads, Node ${node}; processor time of a layer's projections, µs per row`);
  const table = new Table({ head: ["rows in a call", ...ROWS.map(String)], style: { head: [], border: [] } });
  for (const precision of PRECISIONS) table.push([precision, ...costs[precision]!.map((cost) => cost.toFixed(0))]);
  console.log(table.toString());
}
