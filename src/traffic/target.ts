import type { Question } from "./questions.ts";

/** Something that answers questions: an engine in this process, or a server at an address. */
export interface Target {
  readonly models: readonly TargetModel[];
  /** Calls `onTokens` as tokens come. Throws Refused for a 429; an abort of `signal` rejects. */
  ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer>;
  /** Proportional set size of what serves, in bytes; null where it cannot be known. */
  memoryBytes(): number | null;
  /** What its process has computed since it began, all threads, in seconds; null where it cannot be known. */
  processorSeconds(): number | null;
  /** What the server says it holds right now; null where it does not say. */
  holdings(): Promise<Holdings | null>;
  close(): Promise<void>;
}

export interface TargetModel {
  name: string;
  /** null: not told. */
  contextLength: number | null;
  vocabulary: number | null;
}

/** `ids` where the server tells them. */
export interface NewTokens {
  count: number;
  ids: readonly number[] | null;
}

export interface Answer {
  /** `stop`, `length`, or what else the server says. */
  reason: string;
  promptTokens: number;
  /** As the server counts them. */
  completionTokens: number;
}

export interface Holdings {
  queued: number;
  running: number;
  /** Claimed for sequences; kept prefixes are not in it. */
  kvBytes: number;
}

/** The server is full and says when to come back. */
export class Refused extends Error {
  readonly retryAfterSeconds: number | null;

  constructor(message: string, retryAfterSeconds: number | null) {
    super(message);
    this.name = "Refused";
    this.retryAfterSeconds = retryAfterSeconds;
  }
}
