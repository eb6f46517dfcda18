import type { Digest, TensorEntry } from "../../blocks/block.ts";
import { factorTensors, type ChainPart } from "../../chain/chain.ts";
import type { Segment } from "../../chain/plan.ts";

/** A session beside its weights: graph, allocator, threads; measured (bench/memory.ts). */
const SESSION_BYTES = 2 ** 20;
/** A session's allocator keeps what its largest run took: so many values of its widest rows, measured. */
const KEPT_VALUES = 3;
/** Rows whose logits are asked are one per sequence and its draft, not whole prompts. */
const HEAD_ROWS = 64;

/**
 * Memory that a session over these parts takes at most. Weights count once: ONNX Runtime packs matrices into a copy of
 * the same size and lets go of the mapped file; tables stay mapped. Half-precision matrices become float32.
 */
export function sessionBytes(
  { parts, adapters }: { parts: readonly ChainPart[]; adapters: Segment["adapters"] },
  maxBatchTokens: number,
): number {
  const tensors = new Map<Digest, number>();
  for (const part of parts) for (const tensor of part.tensors) tensors.set(tensor.digest, loadedBytes(part, tensor));
  const weights = [...tensors.values()].reduce((sum, bytes) => sum + bytes, factorBytes(adapters));
  const kept = Math.max(...parts.map((part) => keptBytes(part, maxBatchTokens)));
  return weights + SESSION_BYTES + kept;
}

/** As float32, with columns up to the next power of two beside them; the graph holds them once and the kernel packs them. */
function factorBytes(adapters: Segment["adapters"]): number {
  const elements = factorTensors(adapters.flat(2)).map(({ dims }) => dims.reduce((product, dim) => product * dim, 1));
  return elements.reduce((sum, count) => sum + count * 4 * 2 * 2, 0);
}

function loadedBytes(part: ChainPart, { bytes, dtype }: TensorEntry): number {
  return !takes(part, "ids") && (dtype === "float16" || dtype === "bfloat16") ? 2 * bytes : bytes;
}

/** A table's rows are not computed with: only their width counts, not how many there are. */
function keptBytes(part: ChainPart, maxBatchTokens: number): number {
  const isHead = part.outputs.some(({ name }) => name === "logits");
  const rows = isHead ? Math.min(HEAD_ROWS, maxBatchTokens) : maxBatchTokens;
  const widths = [...part.inputs, ...part.outputs].map(({ width }) => width);
  const inner = takes(part, "ids") ? [] : part.tensors.flatMap(({ dims }) => (dims.length < 2 ? [] : dims.slice(0, 2)));
  return rows * 4 * KEPT_VALUES * Math.max(0, ...widths, ...inner);
}

function takes({ inputs }: ChainPart, name: string): boolean {
  return inputs.some((port) => port.name === name);
}
