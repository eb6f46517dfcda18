/** Whole-model sessions in a process of their own, each fed its own batch in turn: what bench/decode.ts compares with. */
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

import { likeliest } from "../src/engine/execute/sampler.ts";
import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { ownInput, proportionalSetBytes } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { processorMilliseconds, promptOf, type DecodeInput, type DecodeResult } from "./decode-sides.ts";

const { layers, keyValueHeads, headSize, vocabulary } = SMOLLM2_135M;

interface Served {
  session: InferenceSession;
  batch: number;
  length: number;
  last: number[];
  cache: Record<string, Tensor>;
}

const input = ownInput() as DecodeInput;
const served: Served[] = [];
for (const folder of input.folders) {
  const session = await InferenceSession.create(join(folder, "model.onnx"), runtimeOptions(input.threads));
  served.push({ session, batch: input.sequencesEach, length: 0, last: [], cache: emptyCache(input.sequencesEach) });
}
const tokens: number[] = [];
for (const [index, one] of served.entries()) {
  const prompts = Array.from({ length: one.batch }, (_, place) => promptOf(index * one.batch + place, input.context));
  await advance(one, prompts);
}
tokens.push(served[0]!.last[0]!);
for (let step = 1; step < input.warmUp; step++) await round();
const started = performance.now();
const processorBefore = processorMilliseconds();
for (let step = 0; step < input.steps; step++) await round();
const seconds = (performance.now() - started) / 1000;
const generated = input.steps * served.reduce((sum, { batch }) => sum + batch, 0);
const result: DecodeResult = {
  tokensPerSecond: generated / seconds,
  processorMilliseconds: (processorMilliseconds() - processorBefore) / generated,
  bytes: proportionalSetBytes(),
  tokens,
};
console.log(JSON.stringify(result));

async function round(): Promise<void> {
  for (const one of served) {
    await advance(
      one,
      one.last.map((token) => [token]),
    );
  }
  tokens.push(served[0]!.last[0]!);
}

/** Feeds one row of tokens per sequence and keeps what the session gives back as the next call's past. */
async function advance(one: Served, rows: number[][]): Promise<void> {
  const { session, batch } = one;
  const width = rows[0]!.length;
  one.length += width;
  const outputs = await session.run({
    input_ids: new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [batch, width]),
    attention_mask: new Tensor("int64", new BigInt64Array(batch * one.length).fill(1n), [batch, one.length]),
    ...one.cache,
  });
  for (let layer = 0; layer < layers; layer++) {
    for (const each of ["key", "value"]) {
      one.cache[`past_key_values.${layer}.${each}`] = outputs[`present.${layer}.${each}`]!;
    }
  }
  const logits = outputs["logits"]!.data as Float32Array;
  one.last = rows.map((_, place) => {
    const row = (place + 1) * width - 1;
    return likeliest(logits.subarray(row * vocabulary, (row + 1) * vocabulary));
  });
}

function emptyCache(batch: number): Record<string, Tensor> {
  const names = Array.from({ length: layers }, (_, layer) => ["key", "value"].map((each) => `${layer}.${each}`)).flat();
  return Object.fromEntries(
    names.map((name) => [
      `past_key_values.${name}`,
      new Tensor("float32", new Float32Array(0), [batch, keyValueHeads, 0, headSize]),
    ]),
  );
}
