/**
 * What keys and values as 8-bit integers would save and cost: bytes, the widening in front of every attention, and what
 * models that were trained lose.
 *
 *   npx tsx bench/kv-int8.ts [--contexts 64,512,2048] [--threads n] [--repeats 5] [--questions 60] [--json]
 *
 * One float32 scale per token and head. Costs are of one layer and one sequence of SmolLM2-135M; quality is of fixtures/desk.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { InferenceSession, Tensor } from "onnxruntime-node";

import type { Attribute, OnnxModel, TensorInfo, ValueInfo } from "../src/onnx/model.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import type { Drift } from "../src/engine/evaluate/drift.ts";
import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { processorMilliseconds } from "./decode-sides.ts";
import { measureQuality } from "./kv-int8-quality.ts";
import { machine, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";

const { values } = parseArgs({
  options: {
    contexts: { type: "string", default: "64,512,2048" },
    threads: { type: "string", default: String(availableParallelism()) },
    repeats: { type: "string", default: "5" },
    questions: { type: "string", default: "60" },
    json: { type: "boolean", default: false },
  },
});

const { heads, keyValueHeads, headSize, layers } = SMOLLM2_135M;
const KEY = keyValueHeads * headSize;
const GROUP = heads / keyValueHeads;
/** More than the processor's caches hold, as there are layers. */
const CACHES = layers;
const MODELS = ["support", "legal", "finance", "hr", "sales", "research"];

/** `cast`: one Cast and one Mul in the graph; `dequantise`: DequantizeLinear in blocks; `script`: a loop in JavaScript. */
type Way = "float" | "cast" | "dequantise" | "script";
const WAYS: Way[] = ["float", "cast", "dequantise", "script"];

interface Cache {
  integers: [Int8Array, Int8Array];
  scales: [Float32Array, Float32Array];
  floats: [Float32Array, Float32Array];
}

/** Microseconds of one attention. */
type Cost = Record<Way, { wall: Spread; processor: number }>;

const sessions = new Map<Way, InferenceSession>();
for (const way of WAYS)
  sessions.set(way, await InferenceSession.create(attentionModel(way), runtimeOptions(Number(values.threads))));
const costs: { context: number; cost: Cost }[] = [];
for (const context of values.contexts.split(",").map(Number)) costs.push({ context, cost: await measureCost(context) });
const quality: { model: string; bits: number; drift: Drift }[] = [];
for (const model of MODELS)
  for (const bits of [8, 4])
    quality.push({ model, bits, drift: await measureQuality(model, { bits }, Number(values.questions)) });
const bytes = { float: 2 * KEY * 4 * layers, int8: 2 * (KEY + keyValueHeads * 4) * layers };
if (values.json) console.log(JSON.stringify({ machine: machine(), bytesPerToken: bytes, costs, quality }, null, 2));
else print();

async function measureCost(context: number): Promise<Cost> {
  const caches = Array.from({ length: CACHES }, () => makeCache(context));
  const query = Float32Array.from({ length: GROUP * KEY }, (_, at) => Math.sin(at));
  const scratch: Cache["floats"] = [new Float32Array(context * KEY), new Float32Array(context * KEY)];
  const walls = Object.fromEntries(WAYS.map((way) => [way, [] as number[]])) as Record<Way, number[]>;
  const processor = { float: 0, cast: 0, dequantise: 0, script: 0 };
  const repeats = Number(values.repeats);
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const way of WAYS) {
      const computed = processorMilliseconds();
      for (const cache of caches) {
        const started = performance.now();
        await sessions.get(way)!.run(feedsOf(way, { cache, query, context, scratch }));
        if (repeat >= 0) walls[way].push((performance.now() - started) * 1000);
      }
      if (repeat >= 0) processor[way] += ((processorMilliseconds() - computed) * 1000) / CACHES / repeats;
    }
  }
  return Object.fromEntries(
    WAYS.map((way) => [way, { wall: spreadOf(walls[way]), processor: processor[way] }]),
  ) as Cost;
}

function makeCache(context: number): Cache {
  const integers = (): Int8Array => Int8Array.from({ length: context * KEY }, () => Math.random() * 254 - 127);
  const scales = (): Float32Array => Float32Array.from({ length: context * keyValueHeads }, () => Math.random() / 127);
  const cache: Cache = {
    integers: [integers(), integers()],
    scales: [scales(), scales()],
    floats: [new Float32Array(context * KEY), new Float32Array(context * KEY)],
  };
  widen(cache, cache.floats);
  return cache;
}

function widen({ integers, scales }: Cache, floats: Cache["floats"]): void {
  for (const [which, widened] of floats.entries()) {
    const [from, by] = [integers[which]!, scales[which]!];
    for (let row = 0, at = 0; row < by.length; row++) {
      const scale = by[row]!;
      for (const end = at + headSize; at < end; at++) widened[at] = from[at]! * scale;
    }
  }
}

function feedsOf(
  way: Way,
  { cache, query, context, scratch }: { cache: Cache; query: Float32Array; context: number; scratch: Cache["floats"] },
): Record<string, Tensor> {
  const q = new Tensor("float32", query, [1, GROUP, KEY]);
  if (way === "float" || way === "script") {
    if (way === "script") widen(cache, scratch);
    const [k, v] = (way === "script" ? scratch : cache.floats).map(
      (each) => new Tensor("float32", each, [1, context, KEY]),
    ) as [Tensor, Tensor];
    return { q, k, v };
  }
  const [k8, v8] = cache.integers.map((each) => new Tensor("int8", each, [1, context, KEY])) as [Tensor, Tensor];
  const [ks, vs] = cache.scales.map((each) => new Tensor("float32", each, [1, context, keyValueHeads])) as [
    Tensor,
    Tensor,
  ];
  return { q, k8, v8, ks, vs };
}

/** The query heads of a key head are rows of that head, as the engine feeds them. */
function attentionModel(way: Way): Uint8Array {
  const nodes: OnnxModel["graph"]["nodes"] = [];
  const node = (opType: string, inputs: string[], output: string, attributes: Record<string, Attribute> = {}): void =>
    void nodes.push({
      name: output,
      opType,
      domain: "",
      inputs,
      outputs: [output],
      attributes: new Map(Object.entries(attributes)),
    });
  const int = (value: number): Attribute => ({ kind: "int", value });
  const inputs: ValueInfo[] = [{ name: "q", dtype: "float32", dims: [1, GROUP, KEY] }];
  const shapes = { apart: [1, -1, keyValueHeads, headSize], scales: [1, -1, keyValueHeads, 1], joined: [1, -1, KEY] };
  for (const each of ["k", "v"]) {
    if (way === "float" || way === "script") {
      inputs.push({ name: each, dtype: "float32", dims: [1, "keys", KEY] });
      continue;
    }
    inputs.push({ name: `${each}8`, dtype: "int8", dims: [1, "keys", KEY] });
    inputs.push({ name: `${each}s`, dtype: "float32", dims: [1, "keys", keyValueHeads] });
    if (way === "dequantise") {
      node("DequantizeLinear", [`${each}8`, `${each}s`], each, { axis: int(2), block_size: int(headSize) });
      continue;
    }
    node("Cast", [`${each}8`], `${each}.cast`, { to: int(1) });
    node("Reshape", [`${each}.cast`, "apart"], `${each}.apart`);
    node("Reshape", [`${each}s`, "scales"], `${each}.scales`);
    node("Mul", [`${each}.apart`, `${each}.scales`], `${each}.scaled`);
    node("Reshape", [`${each}.scaled`, "joined"], each);
  }
  const scale: Attribute = { kind: "float", value: 1 / Math.sqrt(headSize) };
  node("Attention", ["q", "k", "v"], "o", {
    q_num_heads: int(keyValueHeads),
    kv_num_heads: int(keyValueHeads),
    scale,
  });
  const initializers = new Map(
    Object.entries(shapes).map(([name, shape]): [string, TensorInfo] => {
      const bytesOfShape = new Uint8Array(BigInt64Array.from(shape, BigInt).buffer);
      return [name, { name, dtype: "int64", dims: [shape.length], data: { kind: "bytes", bytes: bytesOfShape } }];
    }),
  );
  return writeModel({
    irVersion: 10,
    producer: "bench",
    opsets: new Map([["", 24]]),
    graph: {
      name: "attention",
      nodes,
      initializers: way === "cast" ? initializers : new Map(),
      inputs,
      outputs: [{ name: "o", dtype: "float32", dims: [1, GROUP, KEY] }],
    },
    functions: new Map(),
  });
}

function print(): void {
  const { cpu, node } = machine();
  console.log(`${cpu}, ${values.threads} threads, Node ${node}`);
  console.log(`bytes per token: float32 ${bytes.float}, int8 ${bytes.int8}, ${(bytes.float / bytes.int8).toFixed(2)}×`);
  console.log("one attention of one sequence in one layer, µs, median (least–most), processor time");
  const costTable = new Table({ head: ["context", ...WAYS], style: { head: [], border: [] } });
  for (const { context, cost } of costs)
    costTable.push([
      context,
      ...WAYS.map((way) => `${showSpread(cost[way].wall, 0)}, ${cost[way].processor.toFixed(0)}`),
    ]);
  console.log(costTable.toString());
  const qualityTable = new Table({
    head: ["model", "bits", "positions", "mean KL, nats", "worst", "same likeliest token", "of answers"],
    style: { head: [], border: [] },
  });
  for (const { model, bits, drift } of quality)
    qualityTable.push([
      model,
      bits,
      drift.tokens,
      drift.kl.toExponential(1),
      drift.kl_worst.toExponential(1),
      `${(100 * drift.top1).toFixed(1)} %`,
      `${(100 * drift.top1_answers).toFixed(1)} %`,
    ]);
  console.log(qualityTable.toString());
}
