import { planChains } from "../../chain/plan.ts";
import { ChainExecutor } from "../execute/chain-executor.ts";
import type { BatchItem } from "../execute/executor.ts";
import { likeliest } from "../execute/sampler.ts";
import type { BlockedChain } from "./chain-stretch.ts";
import type { PartSessions } from "./part-sessions.ts";
import { batchesOf, prefillCalls } from "./prefill-calls.ts";

export interface Question {
  tokens: readonly number[];
  /** Most tokens of the answer, at least 1. */
  limit: number;
}

/** The likeliest tokens after each question, up to its limit or with an end token as the last. */
export async function answerGreedily(
  sessions: PartSessions,
  { chain }: BlockedChain,
  {
    questions,
    prefillChunk,
    signal,
  }: { questions: readonly Question[]; prefillChunk: number; signal?: AbortSignal | undefined },
): Promise<number[][]> {
  const endTokens = new Set(chain.document.endTokens);
  const plan = planChains([chain], { fuse: false });
  const given = await sessions.forPlan(plan, { onRun: () => {} });
  const executor = await ChainExecutor.over(plan, sessions.source, { sessions: given, threads: sessions.threads });
  const answers: number[][] = [];
  try {
    for (const batch of batchesOf(questions.map(({ tokens }) => tokens))) {
      const asked = questions.slice(answers.length, answers.length + batch.length);
      const answered: number[][] = asked.map(() => []);
      asked.forEach(({ tokens, limit }, at) =>
        executor.open(at, { model: chain.key, maxTokens: tokens.length + limit }),
      );
      const step = async (items: BatchItem[]): Promise<void> => {
        signal?.throwIfAborted();
        const logits = await executor.execute(items);
        items.forEach((item, at) => {
          if (item.logits === "last") answered[item.sequence]!.push(likeliest(logits[at]!));
        });
      };
      for (const { items } of prefillCalls(batch, prefillChunk)) await step(items.map((item) => lastOnly(item, batch)));
      for (;;) {
        const going = answered.flatMap((answer, at) => nextItem(answer, { at, question: asked[at]!, endTokens }));
        if (going.length === 0) break;
        await step(going);
      }
      asked.forEach((_, at) => executor.release(at));
      answers.push(...answered);
    }
    return answers;
  } finally {
    await executor.close();
  }
}

function lastOnly(item: BatchItem, batch: readonly (readonly number[])[]): BatchItem {
  const isLast = item.start + item.tokens.length === batch[item.sequence]!.length;
  return { ...item, logits: isLast ? "last" : "none" };
}

function nextItem(
  answer: number[],
  { at, question, endTokens }: { at: number; question: Question; endTokens: ReadonlySet<number> },
): BatchItem[] {
  const last = answer.at(-1)!;
  if (answer.length >= question.limit || endTokens.has(last)) return [];
  const start = question.tokens.length + answer.length - 1;
  return [{ sequence: at, tokens: [last], start, logits: "last", stepwise: true }];
}
