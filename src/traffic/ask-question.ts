import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "../support/reason.ts";
import type { Question } from "./questions.ts";
import type { Outcome, Sample } from "./sample.ts";
import { Refused, type Target } from "./target.ts";
import { timeLimit } from "./time-limit.ts";

export interface AskOptions {
  /** Seconds since the run began. */
  now: () => number;
  /** null: due when it is sent. */
  due: number | null;
  timeoutSeconds: number;
  /** How often one that was refused comes back, each time when it was told to. */
  retries: number;
  signal: AbortSignal;
}

/** Where a 429 does not say when to come back. */
const DEFAULT_RETRY_SECONDS = 1;

/** Asks one question to its end. Throws only when `signal` aborts. */
export async function askQuestion(target: Target, question: Question, options: AskOptions): Promise<Sample> {
  const { now, due, timeoutSeconds, signal } = options;
  const sent = now();
  const heard: Heard = { first: null, count: 0, ids: createHash("sha256"), told: true };
  const refusals: (number | null)[] = [];
  const limit = timeLimit(signal, timeoutSeconds);
  let promptTokens = question.prompt.length;
  let completionTokens: number | null = null;
  let outcome: Outcome;
  try {
    const answer = await askUntilTaken(target, question, { ...options, signal: limit.signal, heard, refusals });
    ({ completionTokens } = answer);
    promptTokens = answer.promptTokens || promptTokens;
    outcome = { kind: "finished", reason: answer.reason };
  } catch (error) {
    signal.throwIfAborted();
    outcome = outcomeOf(error, limit.signal);
  } finally {
    limit.clear();
  }
  return {
    index: question.index,
    model: question.model,
    tenant: question.tenant,
    due: due ?? sent,
    sent,
    first: heard.first,
    ended: now(),
    promptTokens,
    completionTokens: completionTokens ?? heard.count,
    refusals: refusals.length,
    retryAfterSeconds: longest(refusals),
    outcome,
    digest: heard.told ? heard.ids.digest("hex").slice(0, 16) : null,
  };
}

interface Heard {
  first: number | null;
  count: number;
  ids: ReturnType<typeof createHash>;
  told: boolean;
}

async function askUntilTaken(
  target: Target,
  question: Question,
  { now, retries, signal, heard, refusals }: AskOptions & { heard: Heard; refusals: (number | null)[] },
): ReturnType<Target["ask"]> {
  const onTokens: Parameters<Target["ask"]>[1] = ({ count, ids }) => {
    heard.first ??= now();
    heard.count += count;
    heard.told &&= ids !== null;
    if (ids !== null) heard.ids.update(`${ids.join(",")},`);
  };
  for (;;) {
    try {
      return await target.ask(question, onTokens, signal);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refusals.push(error.retryAfterSeconds);
      if (refusals.length > retries) throw error;
      await sleep((error.retryAfterSeconds ?? DEFAULT_RETRY_SECONDS) * 1000, undefined, { signal });
    }
  }
}

function outcomeOf(error: unknown, limit: AbortSignal): Outcome {
  if (error instanceof Refused) return { kind: "refused" };
  if (limit.aborted) return { kind: "timeout" };
  return { kind: "error", message: reasonOf(error) };
}

function longest(waits: readonly (number | null)[]): number | null {
  const told = waits.filter((wait) => wait !== null);
  return told.length === 0 ? null : Math.max(...told);
}
