import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

import { DriftSum, type Drift } from "../src/engine/evaluate/drift.ts";
import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { createTokenizer } from "../src/text/tokenizer.ts";

const DESK = join(import.meta.dirname, "..", "fixtures", "desk");
/** Of fixtures/desk; every model has them. */
const SHAPES = { layers: 6, keyValueHeads: 2, headSize: 16, vocabulary: 512 };

interface Question {
  prompt: string;
  answer: string;
}

/** Stored integers of one token's head share a scale: 68 bytes for 64 values. */
export interface Stored {
  /** Of the integers, sign included. */
  bits: number;
}

/**
 * What a desk model's next tokens lose when keys and values are kept as integers, over the questions of its own task: fed
 * token by token, each step from what the one before left.
 */
export async function measureQuality(model: string, stored: Stored, questions: number): Promise<Drift> {
  const folder = join(DESK, "optimum", model);
  const json = (...path: string[]): unknown => JSON.parse(readFileSync(join(...path), "utf8"));
  const tokenizer = createTokenizer(
    json(folder, "tokenizer.json") as object,
    json(folder, "tokenizer_config.json") as object,
  );
  const asked = (json(DESK, "eval", `${model}.json`) as Question[]).slice(0, questions).map(({ prompt, answer }) => {
    const before = tokenizer.encode(prompt);
    return { tokens: tokenizer.encode(`${prompt} ${answer}`), choosesFrom: before.length - 1 };
  });
  const tokens = asked.reduce((sum, one) => sum + one.tokens.length, 0);
  const answers = asked.reduce((sum, one) => sum + one.tokens.length - one.choosesFrom, 0);
  const sum = new DriftSum({ prompts: asked.length, tokens, answers });
  const session = await InferenceSession.create(join(folder, "model.onnx"), runtimeOptions(1));
  try {
    for (const one of asked) {
      const before = await logitsOf(session, one.tokens, null);
      const after = await logitsOf(session, one.tokens, stored);
      before.forEach((row, at) => sum.add(row, after[at]!, at >= one.choosesFrom));
    }
  } finally {
    await session.release();
  }
  return sum.drift();
}

/** `stored` null: as they are. */
async function logitsOf(session: InferenceSession, tokens: number[], stored: Stored | null): Promise<Float32Array[]> {
  const names = Array.from({ length: SHAPES.layers }, (_, layer) => [`${layer}.key`, `${layer}.value`]).flat();
  let past: Tensor[] = names.map(
    () => new Tensor("float32", new Float32Array(0), [1, SHAPES.keyValueHeads, 0, SHAPES.headSize]),
  );
  const rows: Float32Array[] = [];
  for (const [at, token] of tokens.entries()) {
    const feeds: Record<string, Tensor> = {
      input_ids: new Tensor("int64", BigInt64Array.of(BigInt(token)), [1, 1]),
      attention_mask: new Tensor("int64", new BigInt64Array(at + 1).fill(1n), [1, at + 1]),
      position_ids: new Tensor("int64", BigInt64Array.of(BigInt(at)), [1, 1]),
    };
    names.forEach((name, place) => (feeds[`past_key_values.${name}`] = past[place]!));
    const known = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
    const outputs = await session.run(known);
    past = names.map((name) => outputs[`present.${name}`]!);
    if (stored) for (const { data } of past) roundLast(data as Float32Array, at + 1, stored);
    rows.push((outputs["logits"]!.data as Float32Array).slice());
  }
  return rows;
}

/** [1, heads, tokens, width]: the last token's heads, each to integers of its own scale and back. */
function roundLast(values: Float32Array, tokens: number, { bits }: Stored): void {
  const { keyValueHeads, headSize } = SHAPES;
  for (let head = 0; head < keyValueHeads; head++) {
    const start = (head * tokens + tokens - 1) * headSize;
    const row = values.subarray(start, start + headSize);
    const scale = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / (2 ** (bits - 1) - 1);
    if (scale > 0) for (let at = 0; at < headSize; at++) row[at] = Math.round(row[at]! / scale) * scale;
  }
}
