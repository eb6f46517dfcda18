import { type InferenceSession, Tensor } from "onnxruntime-node";
import type { OpaqueSpec } from "../../blocks/block.ts";
import { halfToFloat } from "../../onnx/tensor-data.ts";
import { BlockllmError } from "../../support/errors.ts";
import type { PaddedState, Padding } from "./padded-state.ts";

/** A model's own graph, loaded. */
export interface WholeModelFile {
  session: InferenceSession;
  spec: OpaqueSpec;
  vocabSize: number;
}

/** Feeds every row its tokens, as many as the others; gives the logits of each row's last token and the new state. */
export async function runWhole(
  { session, spec, vocabSize }: WholeModelFile,
  { past, padding, tokens }: { past: PaddedState; padding: Padding; tokens: readonly (readonly number[])[] },
): Promise<{ rows: Float32Array[]; state: PaddedState }> {
  const count = tokens[0]!.length;
  const width = past.width + count;
  const feeds: Record<string, Tensor> = { ...Object.fromEntries(past.tensors), [spec.ids]: integers(tokens) };
  if (spec.positions !== null) {
    feeds[spec.positions] = integers(past.lengths.map((length) => range(count, (offset) => length + offset)));
  }
  if (spec.attentionMask !== null) {
    feeds[spec.attentionMask] = integers(
      past.lengths.map((length) =>
        range(width, (at) => Number(isAttended(at, { length: length + count, width, padding }))),
      ),
    );
  }
  for (const { name, dtype, dims, value } of spec.constants) {
    const size = dims.reduce((product, dim) => product * dim, 1);
    feeds[name] =
      dtype === "bool"
        ? new Tensor("bool", new Uint8Array(size).fill(value), dims)
        : new Tensor("int64", new BigInt64Array(size).fill(BigInt(value)), dims);
  }
  const outputs = await session.run(feeds);
  const logits = floats(outputs[spec.logits]!);
  // Some graphs give the last row's logits only.
  const perRow = logits.length / tokens.length;
  const rows = tokens.map((_, row) => logits.subarray((row + 1) * perRow - vocabSize, (row + 1) * perRow));
  const tensors = new Map(spec.past.map(({ input, output }) => [input, outputs[output]!]));
  return { rows, state: { tensors, lengths: past.lengths.map((length) => length + count), width } };
}

function isAttended(
  at: number,
  { length, width, padding }: { length: number; width: number; padding: Padding },
): boolean {
  return padding === "left" ? at >= width - length : at < length;
}

function range(count: number, valueAt: (at: number) => number): number[] {
  return Array.from({ length: count }, (_, at) => valueAt(at));
}

function integers(rows: readonly (readonly number[])[]): Tensor {
  return new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length]);
}

function floats({ type, data }: Tensor): Float32Array {
  if (type === "float32") return data as Float32Array;
  if (type === "float16") return Float32Array.from(data as Uint16Array, halfToFloat);
  throw new BlockllmError("model_unsupported", `Logits are ${type}; float32 and float16 are understood.`);
}
