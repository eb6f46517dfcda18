import type { RotarySpec, TensorEntry } from "../../blocks/block.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { toNumbers } from "../../onnx/tensor-data.ts";
import type { RotaryTable } from "../../chain/rotary-rows.ts";
import type { WalkStage } from "./walk-stages.ts";

/** The stored tables of every rotary specification that has them. */
export async function readRotaryTables(
  stages: readonly WalkStage[],
  source: BlockSource,
): Promise<Map<RotarySpec, RotaryTable>> {
  const tables = new Map<RotarySpec, RotaryTable>();
  for (const { members } of stages) {
    for (const { rotary } of members.values()) {
      if (rotary?.frequencies.kind !== "table" || tables.has(rotary)) continue;
      const { cos, sin } = rotary.frequencies;
      tables.set(rotary, { cos: await readFloats(cos, source), sin: await readFloats(sin, source) });
    }
  }
  return tables;
}

/** Half-precision tables stay as they came; the rows made from them are float32. */
async function readFloats({ digest, bytes, dtype }: TensorEntry, source: BlockSource): Promise<Float32Array> {
  return Float32Array.from(toNumbers(await source.blobs.read(digest, bytes), dtype));
}
