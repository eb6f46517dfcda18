import type { OpaqueSpec } from "../../blocks/block.ts";
import { joinRows, type HeldRow, type PaddedState, type Padding } from "./padded-state.ts";
import { runWhole, type WholeModelFile } from "./run-whole.ts";

/** Two sequences of different lengths, and the token that each is fed next. */
const PROBES = [
  { prompt: [1, 2, 3, 4, 5], next: 6 },
  { prompt: [7, 8], next: 9 },
];

/** Kernels add in another order for another number of rows; a padded key that is attended to changes far more. */
const TOLERANCE = 1e-3;

/**
 * How this graph takes sequences of different lengths in one call, found by trying: GroupQueryAttention counts a row's
 * mask and wants its padding behind, masks over scores with given positions take it in front. null: neither way gives
 * the rows that the sequences have alone.
 */
export async function choosePadding(file: WholeModelFile): Promise<Padding | null> {
  if (!file.spec.past.every(hasBatchAxis)) return null;
  const alone: Float32Array[] = [];
  const held: HeldRow[] = [];
  for (const { prompt, next } of PROBES) {
    const state = await prefill(file, prompt);
    held.push({ tokens: prompt.length, home: { state, row: 0 } });
    alone.push((await runWhole(file, { padding: "left", past: state, tokens: [[next]] })).rows[0]!.slice());
  }
  for (const padding of ["right", "left"] as const) {
    const together = await tryTogether(file, padding, held);
    if (together?.every((row, index) => isNear(row, alone[index]!))) return padding;
  }
  return null;
}

async function prefill(file: WholeModelFile, prompt: number[]): Promise<PaddedState> {
  const past = joinRows(file.spec, "left", [{ tokens: 0, home: null }]);
  return (await runWhole(file, { padding: "left", past, tokens: [prompt] })).state;
}

/** null: the graph does not take the batch at all. */
async function tryTogether(
  file: WholeModelFile,
  padding: Padding,
  held: readonly HeldRow[],
): Promise<Float32Array[] | null> {
  try {
    const past = joinRows(file.spec, padding, held);
    return (await runWhole(file, { padding, past, tokens: PROBES.map(({ next }) => [next]) })).rows;
  } catch {
    return null;
  }
}

function hasBatchAxis({ dims, sequenceAxis }: OpaqueSpec["past"][number]): boolean {
  return dims.length === 4 && sequenceAxis === 2 && typeof dims[0] !== "number";
}

function isNear(row: Float32Array, expected: Float32Array): boolean {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return row.every((value, at) => Math.abs(value - expected[at]!) <= TOLERANCE * Math.max(1, largest));
}
