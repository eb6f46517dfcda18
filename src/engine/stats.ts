import { newDurations, type Durations } from "./durations.ts";
import type { EndReason } from "./request.ts";
import type { Work } from "./schedule/next-work.ts";

/** What the engine did since it started and what it holds now. */
export interface EngineStats {
  queued: number;
  running: number;
  /** Claimed for sequences, of `kvBytesLimit`. */
  kvBytes: number;
  kvBytesLimit: number;
  /** Claimed for prompt chunks kept behind their sequences; given up when sequences need it. */
  prefixBytes: number;
  /** Cache memory that is really taken. */
  stateBytes: number;
  /** Batches that lanes were given. */
  laneBatches: number;
  /** How often a graphics device was lost and opened anew. */
  deviceLosses: number;
  /** For weights, keys and values together. */
  memoryBytesLimit: number;
  /** What sessions take: weights, and the memory that their allocators keep. */
  weightBytes: number;
  segments: number;
  /** Of `segments`; the others are loaded when a request needs them. */
  loadedSegments: number;
  /** Segments loaded since the start, and segments unloaded because memory was short. */
  loads: Durations;
  unloads: number;
  /** Of sequences that yielded, on disk now; and how often one was put there. */
  swappedBytes: number;
  swaps: number;
  promptTokens: number;
  generatedTokens: number;
  /** Tokens computed again after their sequence had yielded its pages. */
  replayedTokens: number;
  yields: number;
  /** Prompt tokens found kept from earlier prompts, replays included. */
  reusedTokens: number;
  /** Prompt tokens whose first layers were found kept, from models that are alike up to there. */
  partlyReusedTokens: number;
  /** Tokens guessed ahead, and those of them that were right. */
  draftedTokens: number;
  acceptedTokens: number;
  ended: Record<EndReason, number>;
  steps: Durations;
}

export type StatsCounters = Pick<
  EngineStats,
  | "promptTokens"
  | "generatedTokens"
  | "replayedTokens"
  | "yields"
  | "reusedTokens"
  | "partlyReusedTokens"
  | "draftedTokens"
  | "acceptedTokens"
  | "ended"
  | "steps"
>;

const STEP_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export function newCounters(): StatsCounters {
  return {
    promptTokens: 0,
    generatedTokens: 0,
    replayedTokens: 0,
    yields: 0,
    reusedTokens: 0,
    partlyReusedTokens: 0,
    draftedTokens: 0,
    acceptedTokens: 0,
    ended: { stop: 0, length: 0, deadline: 0, cancelled: 0, error: 0 },
    steps: newDurations(STEP_SECONDS),
  };
}

/** Before the work is settled: tokens below the sequence's high mark were computed before. */
export function countWork(
  counters: StatsCounters,
  { sequence, start, count, draft, shared }: Work,
  accepted: number,
): void {
  counters.draftedTokens += draft.length;
  counters.acceptedTokens += accepted;
  if (shared.length > 0) counters.partlyReusedTokens += count;
  const fresh = Math.max(0, start + count - Math.max(start, sequence.computed));
  counters.replayedTokens += count - fresh;
  if (start < sequence.promptLength) counters.promptTokens += fresh;
}
