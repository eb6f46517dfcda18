/**
 * Time of one mixture-of-experts MLP, milliseconds a call: each expert on its own tokens' rows (what parts do), every
 * expert on all rows, and ONNX Runtime's MoE operator; and whether rows have the same bits alone and in a batch.
 *
 *   npx tsx bench/experts.ts [--experts 32] [--chosen 4] [--hidden 512] [--inner 512] [--repeats 30] [--threads n] [--json]
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { InferenceSession, Tensor } from "onnxruntime-node";

import type { CutBlock } from "../src/blocks/cut-model.ts";
import { emitPart, withWeights } from "../src/blocks/emit-part.ts";
import { RowProgram } from "../src/canonical/rows.ts";
import { simplify } from "../src/canonical/simplify.ts";
import { streamWeight } from "../src/canonical/weight-bytes.ts";
import { computedWeight, type Weight } from "../src/canonical/weights.ts";
import { writeOutExperts } from "../src/canonical/write-out-experts.ts";
import type { Attribute, GraphNode } from "../src/onnx/model.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { machine, spreadOf } from "./measure.ts";

const { values } = parseArgs({
  options: {
    experts: { type: "string", default: "32" },
    chosen: { type: "string", default: "4" },
    hidden: { type: "string", default: "512" },
    inner: { type: "string", default: "512" },
    repeats: { type: "string", default: "30" },
    threads: { type: "string", default: String(availableParallelism()) },
    json: { type: "boolean", default: false },
  },
});
const [EXPERTS, CHOSEN, HIDDEN, INNER] = [values.experts, values.chosen, values.hidden, values.inner].map(Number) as [
  number,
  number,
  number,
  number,
];
const ROWS = [1, 2, 4, 8, 16, 32];

const operator: GraphNode = {
  name: "experts",
  opType: "MoE",
  domain: "com.microsoft",
  inputs: ["hidden", "logits", "input2", "", "input4"],
  outputs: ["hidden_out"],
  attributes: new Map<string, Attribute>([
    ["activation_type", { kind: "string", value: "silu" }],
    ["k", { kind: "int", value: CHOSEN }],
    ["normalize_routing_weights", { kind: "int", value: 1 }],
  ]),
};

const program = new RowProgram();
const hidden = program.add({ op: "core", inputs: [], width: HIDDEN, attributes: {}, weights: {} });
const router = program.add({
  op: "linear",
  inputs: [hidden],
  width: EXPERTS,
  attributes: {},
  weights: { weight: random([HIDDEN, EXPERTS]) },
});
const weights = { input2: random([EXPERTS, INNER, HIDDEN]), input4: random([EXPERTS, HIDDEN, INNER]) };
const written = writeOutExperts(program, { node: operator, x: hidden, router, weights })!;
const folded = simplify(program, [written, hidden]);
const sides = {
  "own rows": await part(folded.program, folded.ids.get(hidden)!, folded.ids.get(written)!),
  "all rows": await part(program, hidden, written),
  "MoE operator": await asOperator(),
};
const rows = numbers(ROWS.at(-1)! * HIDDEN);
const results: { side: string; milliseconds: number[]; sameBits: boolean }[] = [];
for (const [side, model] of Object.entries(sides)) {
  const session = await InferenceSession.create(model, {
    intraOpNumThreads: Number(values.threads),
    extra: { session: { intra_op: { allow_spinning: "0" } } },
  });
  const run = async (first: number, count: number): Promise<Float32Array> => {
    const data = rows.slice(first * HIDDEN, (first + count) * HIDDEN);
    const { hidden_out: result } = await session.run({ hidden: new Tensor("float32", data, [1, count, HIDDEN]) });
    return (result!.data as Float32Array).slice();
  };
  const alone = await Promise.all(Array.from({ length: ROWS.at(-1)! }, async (_, row) => await run(row, 1)));
  const milliseconds: number[] = [];
  let sameBits = true;
  for (const count of ROWS) {
    const together = await run(0, count);
    for (let row = 0; row < count; row++)
      sameBits &&= alone[row]!.every((each, i) => Object.is(each, together[row * HIDDEN + i]));
    const times: number[] = [];
    for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
      const start = performance.now();
      await run(0, count);
      times.push(performance.now() - start);
    }
    milliseconds.push(spreadOf(times).median);
  }
  results.push({ side, milliseconds, sameBits });
  await session.release();
}

if (values.json)
  console.log(JSON.stringify({ machine: machine(), experts: EXPERTS, chosen: CHOSEN, rows: ROWS, results }, null, 2));
else {
  const table = new Table({ head: ["ms a call", ...ROWS.map((count) => `${count} rows`), "same bits"] });
  for (const { side, milliseconds, sameBits } of results)
    table.push([side, ...milliseconds.map((each) => each.toFixed(2)), sameBits ? "yes" : "no"]);
  console.log(`${EXPERTS} experts, ${CHOSEN} chosen, ${HIDDEN} × ${INNER}, ${values.threads} threads`);
  console.log(table.toString());
}

async function part(rowProgram: RowProgram, input: number, output: number): Promise<Uint8Array> {
  const inputs = new Map([[input, "hidden" as const]]);
  const outputs = [{ port: "hidden_out" as const, node: output }];
  const block: CutBlock = {
    kind: "mlp",
    layer: 0,
    core: null,
    rotary: null,
    parts: [{ role: "main", inputs, outputs }],
  };
  const emitted = emitPart(rowProgram, block, block.parts[0]!);
  const bytes = new Map<string, Uint8Array>();
  for (const [name, weight] of emitted.weights) bytes.set(name, await bytesOf(weight));
  return writeModel(
    withWeights(emitted, (name, { dims }) => ({
      name,
      dtype: "float32",
      dims,
      data: { kind: "bytes", bytes: bytes.get(name)! },
    })),
  );
}

/** The router as in the part, then the operator. */
async function asOperator(): Promise<Uint8Array> {
  const single = new RowProgram();
  const x = single.add({ op: "core", inputs: [], width: HIDDEN, attributes: {}, weights: {} });
  const { weights: given, ...linear } = program.node(router);
  const logits = single.add({ ...linear, inputs: [x], weights: given });
  const attributes = {
    operator: { domain: operator.domain, opType: operator.opType, attributes: [...operator.attributes] },
  };
  return await part(single, x, single.add({ op: "experts", inputs: [x, logits], width: HIDDEN, attributes, weights }));
}

async function bytesOf(weight: Weight): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of streamWeight(weight)) chunks.push(chunk.slice());
  return new Uint8Array(Buffer.concat(chunks));
}

function random(dims: [number, number] | [number, number, number]): Weight {
  return computedWeight(numbers(dims.reduce((product, dim) => product * dim, 1)), dims, "float32");
}

function numbers(length: number): Float32Array {
  let state = length;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) / 10;
  });
}
