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

/** Memory that a segment's further sessions in lanes take: its weights are shared. */
export function laneBytes(lanes: number): number {
  return lanes > 1 ? lanes * SESSION_BYTES : 0;
}

/** Memory that a run of a session over these parts computes in. It is free again when the run ends. */
export function runBytes({ parts }: Pick<SessionParts, "parts">, maxBatchTokens: number): number {
  return Math.max(0, ...parts.map((part) => runBytesOf(part, maxBatchTokens)));
}

/** Memory of a WebGPU device that a session over these parts takes: its weights. The rest of it is on the host. */
export function deviceSessionBytes(segment: SessionParts, half: HalfUse): number {
  return sessionBytes(segment, half) - SESSION_BYTES;
}

/**
 * Sizes in which a WebGPU device's tensors come, and how many freed ones of each ONNX Runtime keeps for later runs
 * (buffer_manager.cc, 1.30). Smaller ones do not count, larger ones are not kept.
 */
const KEPT_TENSORS: readonly (readonly [bytes: number, count: number])[] = [
  [65_536, 50],
  [131_072, 50],
  [262_144, 50],
  [524_288, 50],
  [1_048_576, 50],
  [2_097_152, 30],
  [4_194_304, 20],
  [8_388_608, 10],
  [12_582_912, 10],
  [16_777_216, 10],
  [26_214_400, 15],
  [33_554_432, 22],
  [44_236_800, 2],
  [58_982_400, 6],
  [67_108_864, 6],
  [134_217_728, 6],
  [167_772_160, 6],
];
/** Logits are there once as the segment's output, and once more on their way to the host. */
const LOGITS_AT_ONCE = 2;

/** Memory of a WebGPU device that runs of these segments compute in, all together: what one gave back the next one takes. */
export function deviceRunBytes(segments: readonly Pick<SessionParts, "parts">[], maxBatchTokens: number): number {
  const sizes = new Map<number, number>();
  for (const part of segments.flatMap(({ parts }) => parts)) {
    for (const width of widthsOf(part)) {
      const isLogits = part.outputs.some((port) => port.name === "logits" && port.width === width);
      const bytes = (isLogits ? Math.min(HEAD_ROWS, maxBatchTokens) : maxBatchTokens) * 4 * width;
      const [size, kept] = KEPT_TENSORS.find(([most]) => bytes <= most) ?? [bytes, VALUES_AT_ONCE];
      sizes.set(size, Math.max(sizes.get(size) ?? 0, isLogits ? LOGITS_AT_ONCE : kept));
    }
  }
  return [...sizes].reduce((sum, [size, count]) => sum + size * count, 0);
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

function runBytesOf(part: ChainPart, maxBatchTokens: number): number {
  const isHead = part.outputs.some(({ name }) => name === "logits");
  const rows = isHead ? Math.min(HEAD_ROWS, maxBatchTokens) : maxBatchTokens;
  return rows * 4 * VALUES_AT_ONCE * Math.max(0, ...widthsOf(part));
}

/** Of rows that go in, come out or are made on the way. A table's rows are not computed with: how many there are is none. */
function widthsOf(part: ChainPart): number[] {
  const widths = [...part.inputs, ...part.outputs].map(({ width }) => width);
  const inner = takes(part, "ids") ? [] : part.tensors.flatMap(({ dims }) => (dims.length < 2 ? [] : dims.slice(0, 2)));
  return [...widths, ...inner];
}

function takes({ inputs }: ChainPart, name: string): boolean {
  return inputs.some((port) => port.name === name);
}
