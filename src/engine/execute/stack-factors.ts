import type { LowRankFactors } from "../../blocks/adapter.ts";
import type { TensorEntry } from "../../blocks/block.ts";
import type { AttachedFactors } from "../../chain/attach-factors.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { toFloats } from "../../fingerprint/element-stream.ts";
import type { TensorInfo } from "../../onnx/model.ts";
import { BlockllmError } from "../../support/errors.ts";

/**
 * The factors of all adapters of one part, side by side: one product per projection serves every row, which keeps the
 * columns of its own adapter and zeros for the others'. Adding those zeros changes no bit of a sum.
 *
 * Kernels sum along the rank in runs of a power of two. An adapter's columns therefore start at a multiple of their number
 * rounded up to a power of two: no run begins in the middle of them that would not alone, and the bits of a row are the
 * same whichever adapters lie beside its own (measured: docs/decisions/2026-11-23-adapters-in-one-batch.md).
 */
export async function stackFactors(
  adapters: readonly LowRankFactors[][],
  blobs: Pick<BlockSource["blobs"], "read">,
): Promise<AttachedFactors[]> {
  const weights = new Set(adapters.flatMap((factors) => factors.map(({ weight }) => weight)));
  return await Promise.all([...weights].map(async (weight) => stackProjection(weight, adapters, blobs)));
}

/** Where one adapter's columns begin among all. */
interface Slot {
  /** Choice of the rows that keep these columns; 0 is the choice of rows without an adapter. */
  choice: number;
  start: number;
  factors: LowRankFactors;
}

async function stackProjection(
  weight: string,
  adapters: readonly LowRankFactors[][],
  blobs: Pick<BlockSource["blobs"], "read">,
): Promise<AttachedFactors> {
  const { slots, rank } = layOut(weight, adapters);
  const [{ factors }] = slots as [Slot];
  const inputWidth = factors.down.dims[0]!;
  const outputWidth = factors.up.dims[1]!;
  const down = new Float32Array(inputWidth * rank);
  const up = new Float32Array(rank * outputWidth);
  const columns = new Uint8Array((adapters.length + 1) * rank);
  for (const { choice, start, factors: own } of slots) {
    const width = own.down.dims[1]!;
    const ownDown = await readFactor(own.down, blobs);
    const ownUp = await readFactor(own.up, blobs);
    for (let row = 0; row < inputWidth; row++)
      down.set(ownDown.subarray(row * width, (row + 1) * width), row * rank + start);
    ownUp.forEach((value, at) => (up[start * outputWidth + at] = value * own.scale));
    columns.fill(1, choice * rank + start, choice * rank + start + width);
  }
  return {
    weight,
    down: tensor("float32", [inputWidth, rank], down),
    up: tensor("float32", [rank, outputWidth], up),
    columns: tensor("bool", [adapters.length + 1, rank], columns),
  };
}

function layOut(weight: string, adapters: readonly LowRankFactors[][]): { slots: Slot[]; rank: number } {
  const slots: Slot[] = [];
  let rank = 0;
  adapters.forEach((adapter, at) => {
    const factors = adapter.find((each) => each.weight === weight);
    if (factors === undefined) return;
    const width = 2 ** Math.ceil(Math.log2(factors.down.dims[1]!));
    const start = Math.ceil(rank / width) * width;
    slots.push({ choice: at + 1, start, factors });
    rank = start + width;
  });
  return { slots, rank };
}

/** Throws `model_unsupported` for infinite numbers: they would reach rows of other models as 0 · ∞. */
async function readFactor({ digest, bytes, dtype }: TensorEntry, blobs: Pick<BlockSource["blobs"], "read">) {
  const values = toFloats(await blobs.read(digest, bytes), dtype);
  if (values.every(Number.isFinite)) return values;
  throw new BlockllmError("model_unsupported", `the adapter's factor ${digest} holds numbers that are not finite`, {
    hint: "export the adapter again",
  });
}

function tensor(dtype: "float32" | "bool", dims: number[], values: Float32Array | Uint8Array): TensorInfo {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name: "", dtype, dims, data: { kind: "bytes", bytes } };
}
