import type { BlockedChain } from "./chain-stretch.ts";
import { type Drift, type DriftBudget, DriftSum } from "./drift.ts";
import { type AskedPrompt, answerPositions, type MeasuredModel, sequenceOf } from "./measured-model.ts";
import type { PartSessions, RecordedRows } from "./part-sessions.ts";
import { runStretch } from "./run-stretch.ts";

/** What came out of every block of a model as split, for the prompts by which merges are chosen. */
export interface Recording {
  prompts: AskedPrompt[];
  /** Per block its rows; the last are logits. */
  blocks: RecordedRows[];
}

/** Runs the model as split and keeps everything. */
export async function record(
  sessions: PartSessions,
  { chain, prefillChunk }: MeasuredModel,
  { prompts, signal }: { prompts: AskedPrompt[]; signal?: AbortSignal | undefined },
): Promise<Recording> {
  const blocks: RecordedRows[] = [];
  const sequences = prompts.map(sequenceOf);
  const rows = sequences.reduce((sum, tokens) => sum + tokens.length, 0);
  const run = { from: 0, to: chain.starts.length - 1, sequences, prefillChunk, signal };
  for await (const ran of runStretch(sessions, chain, run)) {
    ran.blocks.forEach(({ values, width }, block) => {
      blocks[block] ??= { values: new Float32Array(rows * width), width };
      blocks[block].values.set(values, ran.firstRow * width);
    });
  }
  return { prompts, blocks };
}

export interface DriftRun {
  /** Stop where this cannot be kept any more: what comes then is beyond it, and not exact. */
  budget?: DriftBudget | undefined;
  signal?: AbortSignal | undefined;
}

/** The drift of a changed chain from a recording; only what lies behind the first changed block is run. */
export async function driftFromRecording(
  sessions: PartSessions,
  { changed, from, prefillChunk }: { changed: BlockedChain; from: number; prefillChunk: number },
  { recording, budget, signal }: DriftRun & { recording: Recording },
): Promise<Drift> {
  const { prompts, blocks } = recording;
  const chooses = answerPositions(prompts);
  const sum = plannedSum(prompts, chooses);
  const before = blocks.at(-1)!;
  const run = {
    from,
    to: changed.starts.length - 1,
    sequences: prompts.map(sequenceOf),
    recorded: from === 0 ? undefined : blocks[from - 1],
    prefillChunk,
    lastOnly: true,
    signal,
  };
  for await (const { firstRow, rowCount, blocks: after } of runStretch(sessions, changed, run)) {
    for (let row = 0; row < rowCount; row++)
      sum.add(rowOf(before, firstRow + row), rowOf(after.at(-1)!, row), chooses[firstRow + row]!);
    if (budget !== undefined && sum.isBeyond(budget)) break;
  }
  return sum.drift();
}

/** The drift of a changed chain, both chains run side by side: nothing is kept, so any number of prompts may be compared. */
export async function driftSideBySide(
  sessions: PartSessions,
  { model, changed }: { model: Pick<MeasuredModel, "chain" | "prefillChunk">; changed: BlockedChain },
  { prompts, budget, signal }: DriftRun & { prompts: readonly AskedPrompt[] },
): Promise<Drift> {
  const chooses = answerPositions(prompts);
  const sum = plannedSum(prompts, chooses);
  const { prefillChunk } = model;
  const run = { from: 0, to: changed.starts.length - 1, sequences: prompts.map(sequenceOf), prefillChunk, signal };
  const originals = runStretch(sessions, model.chain, { ...run, lastOnly: true });
  try {
    for await (const { firstRow, rowCount, blocks: after } of runStretch(sessions, changed, {
      ...run,
      lastOnly: true,
    })) {
      const before = (await originals.next()).value as { blocks: RecordedRows[] };
      for (let row = 0; row < rowCount; row++)
        sum.add(rowOf(before.blocks.at(-1)!, row), rowOf(after.at(-1)!, row), chooses[firstRow + row]!);
      if (budget !== undefined && sum.isBeyond(budget)) break;
    }
  } finally {
    await originals.return(undefined);
  }
  return sum.drift();
}

/** Of a model from itself. */
export function noDrift(prompts: readonly AskedPrompt[]): Drift {
  const tokens = answerPositions(prompts).length;
  return {
    prompts: prompts.length,
    tokens,
    kl: 0,
    kl_answers: 0,
    kl_worst: 0,
    probability_cosine: 1,
    top1: 1,
    top1_answers: 1,
  };
}

function plannedSum(prompts: readonly AskedPrompt[], chooses: readonly boolean[]): DriftSum {
  return new DriftSum({
    prompts: prompts.length,
    tokens: chooses.length,
    answers: chooses.filter(Boolean).length,
  });
}

function rowOf({ values, width }: RecordedRows, row: number): Float32Array {
  return values.subarray(row * width, (row + 1) * width);
}
