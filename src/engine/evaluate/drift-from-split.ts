import { restoredChain } from "../../store/merged-chain.ts";
import type { Repository, StoredModel } from "../../store/repository.ts";
import type { TextModel } from "../../text/text-model.ts";
import { engineConfig } from "../engine-config.ts";
import { type AnswerAccuracy, answerAccuracy } from "./answer-accuracy.ts";
import { resolveBlocks } from "./chain-stretch.ts";
import type { Drift } from "./drift.ts";
import { driftSideBySide } from "./measure-drift.ts";
import { type Asking, askModel } from "./measured-model.ts";
import { PartSessions } from "./part-sessions.ts";

/** What all merges of a model cost now. The keys are stable JSON. */
export interface MergedDrift extends Drift {
  merged_blocks: number;
  /** Of them, those whose originals were not kept: what they cost is not in the figures. */
  without_originals: number;
  /** null where no right answers are known. */
  accuracy: AnswerAccuracy | null;
}

/** A model against itself as it was split, as far as its originals are there; null for one without merges. */
export async function driftFromSplit(
  repository: Repository,
  { name, document }: StoredModel,
  {
    questions,
    text,
    signal,
  }: { questions: readonly Asking[]; text: TextModel | null; signal?: AbortSignal | undefined },
): Promise<MergedDrift | null> {
  const merged = document.chain.flatMap(({ replaces }) => replaces ?? []);
  if (merged.length === 0) return null;
  const sessions = new PartSessions(repository, engineConfig().threads);
  try {
    const asSplit = { name, document: { ...document, chain: restoredChain(document.chain) } };
    const { asked: prompts, ...model } = await askModel(sessions, asSplit, { questions, signal });
    const changed = await resolveBlocks(repository, { name, document });
    return {
      ...(await driftSideBySide(sessions, { model, changed }, { prompts, signal })),
      merged_blocks: merged.length,
      without_originals: merged.filter(({ kept }) => !kept).length,
      accuracy: text && (await answerAccuracy(sessions, { model: { ...model, text }, changed }, { prompts, signal })),
    };
  } finally {
    await sessions.close();
  }
}
