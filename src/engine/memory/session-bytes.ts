import type { Digest, TensorEntry } from "../../blocks/block.ts";
import { factorTensors, type ChainPart } from "../../chain/chain.ts";
import type { Segment } from "../../chain/plan.ts";
import type { HalfUse } from "../execute/webgpu/for-webgpu.ts";

/** A session beside its weights: graph, threads; measured (bench/memory.ts). */
const SESSION_BYTES = 2 ** 20;
/** So many values of a segment's widest rows are there at once while it runs, what leaves it included. */
const VALUES_AT_ONCE = 4;
/** Rows whose logits are asked are one per sequence and its draft, not whole prompts. */
const HEAD_ROWS = 64;

/** What a session is made of. */
type SessionParts = { parts: readonly ChainPart[]; adapters: Segment["adapters"] };

/**
 * Memory that a session over these parts takes at most while it does not run. Weights count once: ONNX Runtime packs
 * matrices into a copy of the same size and lets go of the mapped file; tables stay mapped. Half-precision matrices become
 * float32, unless a device does something else with them (`half`).
 */
export function sessionBytes({ parts, adapters }: SessionParts, half: HalfUse = "tables"): number {
  const tensors = new Map<Digest, number>();
  for (const part of parts)
    for (const tensor of part.tensors) tensors.set(tensor.digest, loadedBytes(part, tensor, half));
  const weights = [...tensors.values()].reduce((sum, bytes) => sum + bytes, factorBytes(adapters));
  return weights + SESSION_BYTES;
}

/** Memory that a run of a session over these parts computes in. It is free again when the run ends. */
export function runBytes({ parts }: Pick<SessionParts, "parts">, maxBatchTokens: number): number {
  return Math.max(0, ...parts.map((part) => runBytesOf(part, maxBatchTokens)));
}

/** Memory of a WebGPU device that a session over these parts takes: it keeps what its runs took. */
export function deviceSessionBytes(
  segment: SessionParts,
  { half, maxBatchTokens }: { half: HalfUse; maxBatchTokens: number },
): number {
  return sessionBytes(segment, half) + runBytes(segment, maxBatchTokens);
}

/** As float32, with columns up to the next power of two beside them; the graph holds them once and the kernel packs them. */
export function factorBytes(adapters: Segment["adapters"]): number {
  const elements = factorTensors(adapters.flat(2)).map(({ dims }) => dims.reduce((product, dim) => product * dim, 1));
  return elements.reduce((sum, count) => sum + count * 4 * 2 * 2, 0);
}

function loadedBytes(part: ChainPart, { bytes, dtype }: TensorEntry, half: HalfUse): number {
  if (dtype !== "float16" && dtype !== "bfloat16") return bytes;
  const stays = takes(part, "ids") ? half !== "none" : half === "products" && dtype === "float16";
  return stays ? bytes : 2 * bytes;
}

/** A table's rows are not computed with: only their width counts, not how many there are. */
function runBytesOf(part: ChainPart, maxBatchTokens: number): number {
  const isHead = part.outputs.some(({ name }) => name === "logits");
  const rows = isHead ? Math.min(HEAD_ROWS, maxBatchTokens) : maxBatchTokens;
  const widths = [...part.inputs, ...part.outputs].map(({ width }) => width);
  const inner = takes(part, "ids") ? [] : part.tensors.flatMap(({ dims }) => (dims.length < 2 ? [] : dims.slice(0, 2)));
  return rows * 4 * VALUES_AT_ONCE * Math.max(0, ...widths, ...inner);
}

function takes({ inputs }: ChainPart, name: string): boolean {
  return inputs.some((port) => port.name === name);
}
