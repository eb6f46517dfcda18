import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";

import type { TensorInfo } from "../src/onnx/model.ts";
import { readModel } from "../src/onnx/read-model.ts";
import { floatToHalf, readTensor } from "../src/onnx/tensor-data.ts";
import { layerLinears, type Shapes } from "./model-graph.ts";
import { BLOCK_SIZE, LORA_RANK, type Linear } from "./model-linear.ts";
import { writeGguf, type GgufTensor, type GgufValue } from "./write-gguf.ts";

const ROTARY_BASE = 100_000;
/** A scale in float16 and 32 integers. */
const BLOCK_BYTES = 2 + BLOCK_SIZE;
const ZERO = 128;

/**
 * The weights of a generated int8 model as llama.cpp takes them, `model.gguf` beside it: Q8_0 has the same integers and
 * scales, a LoRA is merged and quantised again. Nothing is written where the file is there.
 */
export async function writeLlamaFile(folder: string, shapes: Shapes): Promise<void> {
  const path = join(folder, "model.gguf");
  if (existsSync(path)) return;
  const { graph } = await readModel(join(folder, "model.onnx"));
  await writeGguf(`${path}.part`, { metadata: metadataOf(shapes), tensors: tensorsOf(shapes, graph.initializers) });
  await rename(`${path}.part`, path);
}

function metadataOf(shapes: Shapes): Record<string, GgufValue> {
  return {
    "general.architecture": { string: "llama" },
    "general.name": { string: "generated" },
    "general.file_type": { uint32: 7 },
    "llama.vocab_size": { uint32: shapes.vocabulary },
    "llama.context_length": { uint32: shapes.context },
    "llama.embedding_length": { uint32: shapes.hidden },
    "llama.block_count": { uint32: shapes.layers },
    "llama.feed_forward_length": { uint32: shapes.inner },
    "llama.attention.head_count": { uint32: shapes.heads },
    "llama.attention.head_count_kv": { uint32: shapes.keyValueHeads },
    "llama.attention.layer_norm_rms_epsilon": { float32: 1e-5 },
    "llama.rope.dimension_count": { uint32: shapes.headSize },
    "llama.rope.freq_base": { float32: ROTARY_BASE },
    ...tokenizerOf(shapes),
  };
}

const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, byte: 6 };

/** node-llama-cpp loads no model without a tokenizer that knows all bytes; prompts are token ids, so any words do. */
function tokenizerOf({ vocabulary }: Shapes): Record<string, GgufValue> {
  const { normal, unknown, control, byte } = TOKEN_TYPES;
  const first = [
    { text: "<unk>", type: unknown },
    { text: "<s>", type: control },
    { text: "</s>", type: control },
    ...Array.from({ length: 256 }, (_, value) => ({
      text: `<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`,
      type: byte,
    })),
  ];
  const tokens = Array.from({ length: vocabulary }, (_, id) => first[id] ?? { text: `token ${id}`, type: normal });
  return {
    "tokenizer.ggml.model": { string: "llama" },
    "tokenizer.ggml.tokens": { strings: tokens.map(({ text }) => text) },
    "tokenizer.ggml.scores": { float32s: tokens.map((_, id) => -id) },
    "tokenizer.ggml.token_type": { int32s: tokens.map(({ type }) => type) },
    "tokenizer.ggml.bos_token_id": { uint32: 1 },
    "tokenizer.ggml.eos_token_id": { uint32: 2 },
    "tokenizer.ggml.unknown_token_id": { uint32: 0 },
  };
}

function tensorsOf(shapes: Shapes, weights: ReadonlyMap<string, TensorInfo>): GgufTensor[] {
  const { hidden, vocabulary, layers, headSize } = shapes;
  const norm = (name: string, from: string): GgufTensor => ({
    name: `${name}.weight`,
    dims: [hidden],
    type: "F32",
    byteLength: hidden * 4,
    bytes: () => readTensor(weights.get(`${from}.weight`)!),
  });
  const matrix = (name: string, { linear, ...place }: MatrixSource): GgufTensor => ({
    name: `${name}.weight`,
    dims: [...linear.widths],
    type: "Q8_0",
    byteLength: (linear.widths[0] / BLOCK_SIZE) * linear.widths[1] * BLOCK_BYTES,
    bytes: () => matrixBytes(readMatrix(weights, { linear, ...place })),
  });
  const perLayer = Array.from({ length: layers }, (_, layer) => {
    const { qkv, q, k, v, o, gate, up, down } = layerLinears(shapes, layer);
    const [queries, keys] = [q.widths[1], k.widths[1]];
    const from = `model.layers.${layer}`;
    const to = `blk.${layer}`;
    return [
      norm(`${to}.attn_norm`, `${from}.input_layernorm`),
      matrix(`${to}.attn_q`, { linear: q, packed: { linear: qkv, start: 0 }, headSize }),
      matrix(`${to}.attn_k`, { linear: k, packed: { linear: qkv, start: queries }, headSize }),
      matrix(`${to}.attn_v`, { linear: v, packed: { linear: qkv, start: queries + keys } }),
      matrix(`${to}.attn_output`, { linear: o }),
      norm(`${to}.ffn_norm`, `${from}.post_attention_layernorm`),
      matrix(`${to}.ffn_gate`, { linear: gate }),
      matrix(`${to}.ffn_up`, { linear: up }),
      matrix(`${to}.ffn_down`, { linear: down }),
    ];
  });
  return [
    matrix("token_embd", { linear: { name: "lm_head", widths: [hidden, vocabulary], layer: null } }),
    ...perLayer.flat(),
    norm("output_norm", `model.layers.${layers}.final_norm_layernorm`),
  ];
}

interface MatrixSource {
  linear: Linear;
  /** Where its rows are when the graph has it packed with others. */
  packed?: { linear: Linear; start: number };
  /** Of heads whose rows llama.cpp rotates in neighbouring pairs, not in halves. */
  headSize?: number;
}

/** Row by row of outputs: the integers, and a scale per block. */
interface Matrix {
  inner: number;
  integers: Uint8Array;
  scales: Float32Array;
}

function readMatrix(weights: ReadonlyMap<string, TensorInfo>, { linear, packed, headSize }: MatrixSource): Matrix {
  const [inner, outer] = linear.widths;
  const apart = readQuantised(weights, linear);
  const whole = apart ?? readQuantised(weights, packed!.linear)!;
  const start = apart ? 0 : packed!.start;
  const rows = Array.from({ length: outer }, (_, row) => start + (headSize ? interleaved(row, headSize) : row));
  const chosen = {
    inner,
    integers: pickRows(whole.integers, rows, inner),
    scales: pickRows(whole.scales, rows, inner / BLOCK_SIZE),
  };
  const down = weights.get(`${linear.name}.lora_A.MatMul.weight`);
  const up = weights.get(`${linear.name}.lora_B.MatMul.weight`);
  return down && up ? merge(chosen, { down: floats(down), up: floats(up), rows }) : chosen;
}

function readQuantised(weights: ReadonlyMap<string, TensorInfo>, { name, widths }: Linear): Matrix | null {
  const integers = weights.get(`${name}.MatMul.weight_Q8`);
  const scales = weights.get(`${name}.MatMul.weight_scales`);
  return integers && scales ? { inner: widths[0], integers: readTensor(integers), scales: floats(scales) } : null;
}

function floats(tensor: TensorInfo): Float32Array {
  return new Float32Array(readTensor(tensor).slice().buffer);
}

/** Which row of a head in halves is this row of the head in pairs. */
function interleaved(row: number, headSize: number): number {
  const within = row % headSize;
  return row - within + (within % 2) * (headSize / 2) + Math.floor(within / 2);
}

function pickRows<Values extends Uint8Array | Float32Array>(values: Values, rows: number[], width: number): Values {
  const picked = values.slice(0, rows.length * width) as Values;
  for (const [at, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), at * width);
  return picked;
}

/** `rows`: the outputs of the factors that the matrix's rows are. */
function merge(
  { inner, integers, scales }: Matrix,
  { down, up, rows }: { down: Float32Array; up: Float32Array; rows: number[] },
): Matrix {
  const merged = { inner, integers: integers.slice(), scales: scales.slice() };
  const outer = rows.length;
  const values = new Float32Array(BLOCK_SIZE);
  for (let block = 0; block < scales.length; block++) {
    const column = rows[Math.floor((block * BLOCK_SIZE) / inner)]! % outer;
    const first = (block * BLOCK_SIZE) % inner;
    let largest = 0;
    for (let at = 0; at < BLOCK_SIZE; at++) {
      let value = (integers[block * BLOCK_SIZE + at]! - ZERO) * scales[block]!;
      for (let rank = 0; rank < LORA_RANK; rank++)
        value += down[(first + at) * LORA_RANK + rank]! * up[rank * outer + column]!;
      values[at] = value;
      largest = Math.max(largest, Math.abs(value));
    }
    const scale = largest / (ZERO - 1);
    merged.scales[block] = scale;
    for (let at = 0; at < BLOCK_SIZE; at++)
      merged.integers[block * BLOCK_SIZE + at] = scale === 0 ? ZERO : Math.round(values[at]! / scale) + ZERO;
  }
  return merged;
}

function matrixBytes({ integers, scales }: Matrix): Uint8Array {
  const bytes = new Uint8Array(scales.length * BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < scales.length; block++) {
    view.setUint16(block * BLOCK_BYTES, floatToHalf(scales[block]!), true);
    for (let at = 0; at < BLOCK_SIZE; at++)
      bytes[block * BLOCK_BYTES + 2 + at] = integers[block * BLOCK_SIZE + at]! - ZERO;
  }
  return bytes;
}
