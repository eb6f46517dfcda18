/**
 * The attention core of one layer by two ways: the engine's, through onnxruntime-node's own interface, and
 * GroupQueryAttention on caches that stay in place, through the library's C interface and koffi.
 *
 *   npx tsx bench/attention-core.ts --project <folder where koffi is installed> [--sequences 16] [--contexts 64,512]
 *                                   [--threads n] [--repeats 20] [--json]
 *
 * koffi is nobody's dependency here: npm install koffi in a folder of its own. Geometry and number of layers are
 * SmolLM2-135M's. Both ways append a row and attend, in turns; every layer has a cache of its own.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import type { CoreSpec } from "../src/blocks/block.ts";
import type { OnnxModel, ValueInfo } from "../src/onnx/model.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { AttentionCores } from "../src/engine/execute/attention-core.ts";
import { SequenceCache } from "../src/engine/kv/sequence-cache.ts";
import { CApi } from "./c-api.ts";
import { processorMilliseconds } from "./decode-sides.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { machine, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";

const { values } = parseArgs({
  options: {
    project: { type: "string", default: process.cwd() },
    sequences: { type: "string", default: "16" },
    contexts: { type: "string", default: "64,512" },
    threads: { type: "string", default: String(availableParallelism()) },
    repeats: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});

const { heads, keyValueHeads, headSize, layers } = SMOLLM2_135M;
const [QUERY, KEY] = [heads * headSize, keyValueHeads * headSize];
const SEQUENCES = Number(values.sequences);
const THREADS = Number(values.threads);

const CORE: CoreSpec = {
  heads,
  kvHeads: keyValueHeads,
  headSize,
  valueHeadSize: headSize,
  scale: 1 / Math.sqrt(headSize),
  softcap: null,
  window: null,
  alibiSlopes: null,
  sinks: null,
};

/** Microseconds of one layer. */
interface Measured {
  context: number;
  engine: Cost;
  native: Cost;
  /** Largest between the outputs of the two. */
  difference: number;
  /** Rows of one sequence are the same, bit for bit, alone and among the others. */
  nativeRowsStay: boolean;
}

interface Cost {
  wall: Spread;
  processor: number;
}

/** Rows of all sequences, one each. */
interface Rows {
  q: Float32Array;
  k: Float32Array;
  v: Float32Array;
}

const api = openApi();
if (api) {
  const measured: Measured[] = [];
  for (const context of values.contexts.split(",").map(Number)) measured.push(await measure(api, context));
  if (values.json)
    console.log(JSON.stringify({ machine: machine(), sequences: SEQUENCES, threads: THREADS, measured }, null, 2));
  else print(measured);
}

function openApi(): CApi | null {
  try {
    return new CApi(values.project);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
    console.error(`koffi is not installed in ${values.project}: npm install koffi`);
    process.exitCode = 1;
    return null;
  }
}

async function measure(native: CApi, context: number): Promise<Measured> {
  const rows = { q: random(SEQUENCES * QUERY), k: random(SEQUENCES * KEY), v: random(SEQUENCES * KEY) };
  const past = Array.from({ length: SEQUENCES }, () => ({ k: random(context * KEY), v: random(context * KEY) }));
  const engine = await engineSide(rows, past, context);
  const nativeOutput = new Float32Array(SEQUENCES * QUERY);
  const inPlace = nativeSide(native, { rows, past, context, output: nativeOutput });
  const cost = { engine: [] as number[], native: [] as number[] };
  const processor = { engine: 0, native: 0 };
  const repeats = Number(values.repeats);
  for (let repeat = -2; repeat < repeats; repeat++) {
    for (const [side, step] of [
      ["engine", engine.step],
      ["native", inPlace],
    ] as const) {
      const [started, computed] = [performance.now(), processorMilliseconds()];
      await step();
      if (repeat < 0) continue;
      cost[side].push(((performance.now() - started) * 1000) / layers);
      processor[side] += ((processorMilliseconds() - computed) * 1000) / layers / repeats;
    }
  }
  const attended = await engine.attendFirst();
  const difference = attended.reduce((most, value, at) => Math.max(most, Math.abs(value - nativeOutput[at]!)), 0);
  await engine.close();
  return {
    context,
    engine: { wall: spreadOf(cost.engine), processor: processor.engine },
    native: { wall: spreadOf(cost.native), processor: processor.native },
    difference,
    nativeRowsStay: rowsStay(native, { rows, past, context, together: nativeOutput }),
  };
}

interface EngineSide {
  /** Appends and attends in every layer. */
  step: () => Promise<void>;
  /** Output rows of the first layer, which has the same past as the native side's. */
  attendFirst: () => Promise<Float32Array>;
  close: () => Promise<void>;
}

type Past = { k: Float32Array; v: Float32Array }[];

/** The last of `context` rows is overwritten by each step, so that lengths stay. */
async function engineSide({ q, k, v }: Rows, past: Past, context: number): Promise<EngineSide> {
  const cores = new AttentionCores(THREADS);
  await cores.load([CORE]);
  const caches = past.map((one) => {
    const cache = new SequenceCache(
      Array.from({ length: layers }, () => CORE),
      context,
    );
    cache.reserve(context);
    for (const layer of cache.layers) layer.write(0, one.k, one.v);
    return cache;
  });
  const attend = async (layer: number): Promise<Float32Array> =>
    await cores.attend(
      caches.map(({ layers: own }, at) => {
        const cache = own[layer]!;
        cache.write(context - 1, k.subarray(at * KEY, (at + 1) * KEY), v.subarray(at * KEY, (at + 1) * KEY));
        const query = q.subarray(at * QUERY, (at + 1) * QUERY);
        return { core: CORE, cache, start: context - 1, count: 1, query };
      }),
    );
  return {
    step: async () => {
      for (let layer = 0; layer < layers; layer++) await attend(layer);
      cores.endStep();
    },
    attendFirst: async () => await attend(0),
    close: async () => await cores.close(),
  };
}

interface NativeInput {
  rows: Rows;
  past: Past;
  context: number;
  output: Float32Array;
}

/** One call per layer for all sequences. Their caches are one tensor [sequences, heads, capacity, width]. */
function nativeSide(native: CApi, { rows, past, context, output }: NativeInput, count = layers): () => void {
  const session = native.session(nativeModel(), THREADS);
  const sequences = past.length;
  const capacity = context + 64;
  const calls = Array.from({ length: count }, () => {
    const cache = (each: "k" | "v") =>
      native.value(
        headMajor(
          past.map((one) => one[each]),
          context,
          capacity,
        ),
        [sequences, keyValueHeads, capacity, headSize],
      );
    const [keys, queries] = [cache("k"), native.value(rows.q, [sequences, 1, QUERY])];
    const held = cache("v");
    const inputs = {
      q: queries,
      k: native.value(rows.k, [sequences, 1, KEY]),
      v: native.value(rows.v, [sequences, 1, KEY]),
      past_k: keys,
      past_v: held,
      last: native.value(new Int32Array(sequences).fill(context - 1), [sequences]),
      total: native.value(Int32Array.of(context), []),
    };
    const outputs = { o: native.value(output, [sequences, 1, QUERY]), present_k: keys, present_v: held };
    return native.prepareRun(session, inputs, outputs);
  });
  return () => {
    for (const call of calls) call.run();
  };
}

function rowsStay(
  native: CApi,
  { rows, past, context, together }: Omit<NativeInput, "output"> & { together: Float32Array },
): boolean {
  return past.every((one, at) => {
    const output = new Float32Array(QUERY);
    const own = {
      q: rows.q.slice(at * QUERY, (at + 1) * QUERY),
      k: rows.k.slice(at * KEY, (at + 1) * KEY),
      v: rows.v.slice(at * KEY, (at + 1) * KEY),
    };
    nativeSide(native, { rows: own, past: [one], context, output }, 1)();
    return Buffer.from(output.buffer).equals(Buffer.from(together.buffer, at * QUERY * 4, QUERY * 4));
  });
}

function nativeModel(): Uint8Array {
  const graph = new GraphBuilder();
  const input = (name: string, dtype: ValueInfo["dtype"], dims: ValueInfo["dims"]): ValueInfo => ({
    name,
    dtype,
    dims,
  });
  const cache = (name: string): ValueInfo => input(name, "float32", ["B", keyValueHeads, "capacity", headSize]);
  graph.add(
    "GroupQueryAttention",
    ["q", "k", "v", "past_k", "past_v", "last", "total"],
    ["o", "present_k", "present_v"],
    { num_heads: heads, kv_num_heads: keyValueHeads, scale: CORE.scale, do_rotary: 0 },
    "com.microsoft",
  );
  const model: OnnxModel = {
    irVersion: 10,
    producer: "bench",
    opsets: new Map([
      ["", 21],
      ["com.microsoft", 1],
    ]),
    graph: {
      name: "native-core",
      nodes: graph.nodes,
      initializers: new Map(),
      inputs: [
        input("q", "float32", ["B", 1, QUERY]),
        input("k", "float32", ["B", 1, KEY]),
        input("v", "float32", ["B", 1, KEY]),
        cache("past_k"),
        cache("past_v"),
        input("last", "int32", ["B"]),
        input("total", "int32", []),
      ],
      outputs: [input("o", "float32", ["B", 1, QUERY]), cache("present_k"), cache("present_v")],
    },
    functions: new Map(),
  };
  return writeModel(model);
}

/** Rows of tokens, sequence by sequence, as [sequences, heads, capacity, width]. */
function headMajor(sequences: Float32Array[], context: number, capacity: number): Float32Array {
  const laidOut = new Float32Array(sequences.length * keyValueHeads * capacity * headSize);
  for (const [place, tokens] of sequences.entries()) {
    for (let token = 0; token < context; token++) {
      for (let head = 0; head < keyValueHeads; head++) {
        const from = (token * keyValueHeads + head) * headSize;
        const to = ((place * keyValueHeads + head) * capacity + token) * headSize;
        laidOut.set(tokens.subarray(from, from + headSize), to);
      }
    }
  }
  return laidOut;
}

function random(length: number): Float32Array {
  return Float32Array.from({ length }, () => Math.random() - 0.5);
}

function print(list: Measured[]): void {
  const { cpu, node } = machine();
  console.log(`${cpu}, ${THREADS} threads, Node ${node}; ${SEQUENCES} sequences, one layer, µs, median (least–most)`);
  const table = new Table({
    head: ["context", "engine", "processor", "C interface", "processor", "difference", "same bits alone"],
    style: { head: [], border: [] },
  });
  for (const { context, engine, native, difference, nativeRowsStay } of list) {
    table.push([
      context,
      showSpread(engine.wall, 0),
      engine.processor.toFixed(0),
      showSpread(native.wall, 0),
      native.processor.toFixed(0),
      difference.toExponential(1),
      nativeRowsStay ? "yes" : "no",
    ]);
  }
  console.log(table.toString());
}
