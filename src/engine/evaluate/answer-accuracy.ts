import type { TextModel } from "../../text/text-model.ts";
import { answerGreedily } from "./answer-greedily.ts";
import type { BlockedChain } from "./chain-stretch.ts";
import type { AskedPrompt, MeasuredModel } from "./measured-model.ts";
import type { PartSessions } from "./part-sessions.ts";
import { differenceInterval, type Interval, wilsonInterval } from "./score-interval.ts";

/** How many of the answers with a known right one are right, before merging and after. */
export interface AnswerAccuracy {
  asked: number;
  before: number;
  after: number;
  /** 95 %, Wilson. */
  before_interval: Interval;
  after_interval: Interval;
  /** 95 % for after − before on the same questions, Newcombe. */
  difference_interval: Interval;
}

/** null where no right answers are known. */
export async function answerAccuracy(
  sessions: PartSessions,
  { model, changed }: { model: Pick<MeasuredModel, "prefillChunk" | "text">; changed: BlockedChain },
  { prompts, signal }: { prompts: readonly AskedPrompt[]; signal?: AbortSignal | undefined },
): Promise<AnswerAccuracy | null> {
  const asked = prompts.filter(({ expected }) => expected !== null);
  if (asked.length === 0) return null;
  const { prefillChunk, text } = model;
  const after = await answerGreedily(sessions, changed, { questions: asked, prefillChunk, signal });
  const paired = { bothRight: 0, onlyBefore: 0, onlyAfter: 0, neither: 0 };
  asked.forEach((prompt, at) => {
    const rightBefore = isRight(text, prompt.answer, prompt.expected!);
    const rightAfter = isRight(text, after[at]!, prompt.expected!);
    paired[rightBefore ? (rightAfter ? "bothRight" : "onlyBefore") : rightAfter ? "onlyAfter" : "neither"]++;
  });
  const [before, now] = [paired.bothRight + paired.onlyBefore, paired.bothRight + paired.onlyAfter];
  return {
    asked: asked.length,
    before: before / asked.length,
    after: now / asked.length,
    before_interval: wilsonInterval(before, asked.length),
    after_interval: wilsonInterval(now, asked.length),
    difference_interval: differenceInterval(paired),
  };
}

/** Begins with what was expected, and not with a longer word or number: "cost 30" is not "cost 3". */
function isRight({ tokenizer }: TextModel, answer: readonly number[], expected: string): boolean {
  const [given, wanted] = [tokenizer.decode(answer).trim(), expected.trim()];
  const goesOn = /[\p{L}\p{N}]$/u.test(wanted) && /^[\p{L}\p{N}]/u.test(given.slice(wanted.length));
  return given.startsWith(wanted) && !goesOn;
}
