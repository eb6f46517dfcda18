import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { askQuestion } from "./ask-question.ts";
import type { RunLimits } from "./arrivals.ts";
import { questionSource, type QuestionMix } from "./questions.ts";
import type { Sample } from "./sample.ts";
import type { Target } from "./target.ts";

export interface Load {
  mix: QuestionMix;
  /**
   * Closed: so many clients, each asking again when it has its answer. Open: at these times, whatever became of earlier
   * ones; `seconds` is how long the load lasts, null: until the last answer.
   */
  arrivals:
    | { kind: "closed"; clients: number; limits: RunLimits }
    | { kind: "open"; times: readonly number[]; seconds: number | null };
  timeoutSeconds: number;
  retries: number;
}

export interface LoadResult {
  samples: Sample[];
  /** How long the load lasted; what came later is the run dying out. */
  seconds: number;
  /** Most that was seen while it ran. */
  memoryBytes: number | null;
  /** That the serving process computed from the start to the last answer. */
  processorSeconds: number | null;
}

const MEMORY_INTERVAL_MS = 1000;

/** Asks a target as many questions as the load has, and waits until all of them ended. */
export async function runLoad(target: Target, load: Load, signal: AbortSignal): Promise<LoadResult> {
  // Every question under way listens.
  setMaxListeners(0, signal);
  const began = performance.now();
  const now = (): number => (performance.now() - began) / 1000;
  const question = questionSource(load.mix);
  const ask = async (index: number, due: number | null): Promise<Sample> =>
    await askQuestion(target, question(index), { ...load, now, due, signal });
  const memory = watchMemory(target);
  const computedBefore = target.processorSeconds();
  try {
    const { pending, seconds } =
      load.arrivals.kind === "closed"
        ? await askInTurns(ask, now, load.arrivals)
        : await askWhenDue(ask, now, { ...load.arrivals, signal });
    memory.look();
    const samples = await Promise.all(pending);
    const computed = target.processorSeconds();
    const processorSeconds = computed === null || computedBefore === null ? null : computed - computedBefore;
    return { samples, seconds: seconds ?? now(), memoryBytes: memory.most(), processorSeconds };
  } finally {
    memory.stop();
  }
}

type Ask = (index: number, due: number | null) => Promise<Sample>;

/** Promises of all questions that were sent, once the last was. */
interface Sent {
  pending: Promise<Sample>[];
  seconds: number | null;
}

async function askInTurns(
  ask: Ask,
  now: () => number,
  { clients, limits }: { clients: number; limits: RunLimits },
): Promise<Sent> {
  const pending: Promise<Sample>[] = [];
  const more = (): boolean =>
    pending.length < (limits.requests ?? Infinity) &&
    (pending.length < clients || now() < (limits.seconds ?? Infinity));
  let seconds = 0;
  const client = async (): Promise<void> => {
    while (more()) {
      seconds = now();
      const sample = ask(pending.length, null);
      pending.push(sample);
      await sample;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  // Where no client asked twice, the run is that one round.
  return { pending, seconds: pending.length <= clients ? now() : seconds };
}

async function askWhenDue(
  ask: Ask,
  now: () => number,
  { times, seconds, signal }: { times: readonly number[]; seconds: number | null; signal: AbortSignal },
): Promise<Sent> {
  const pending: Promise<Sample>[] = [];
  for (const [index, due] of times.entries()) {
    const early = due - now();
    if (early > 0) await sleep(early * 1000, undefined, { signal });
    const sample = ask(index, due);
    // Rejections are seen by who awaits all of them, after the last was sent.
    sample.catch(() => {});
    pending.push(sample);
  }
  return { pending, seconds };
}

function watchMemory(target: Target): { look: () => void; most: () => number | null; stop: () => void } {
  let most: number | null = null;
  const look = (): void => {
    const bytes = target.memoryBytes();
    if (bytes !== null) most = Math.max(most ?? 0, bytes);
  };
  const timer = setInterval(look, MEMORY_INTERVAL_MS);
  return { look, most: () => most, stop: () => clearInterval(timer) };
}
