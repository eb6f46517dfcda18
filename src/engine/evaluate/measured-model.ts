import { scalesByCall } from "../../chain/chain.ts";
import type { ModelDocument } from "../../store/model-document.ts";
import { BlockllmError } from "../../support/errors.ts";
import { encodeChat, encodePrompt, type TextModel } from "../../text/text-model.ts";
import { engineConfig } from "../engine-config.ts";
import { answerGreedily } from "./answer-greedily.ts";
import { type BlockedChain, resolveBlocks } from "./chain-stretch.ts";
import type { PartSessions } from "./part-sessions.ts";
import type { CalibrationLine } from "./read-calibration.ts";

/** A model as it was split, with what it is asked. */
export interface MeasuredModel {
  name: string;
  /** As split. */
  document: ModelDocument;
  chain: BlockedChain;
  text: TextModel;
  prefillChunk: number;
  /** A third of the prompts, by which merges are chosen. */
  choosing: AskedPrompt[];
  /** The others, which tell what the merges that were chosen cost. */
  heldOut: AskedPrompt[];
}

export interface AskedPrompt {
  tokens: number[];
  /** What a right answer begins with; null: not known. */
  expected: string | null;
  /** Most tokens of an answer. */
  limit: number;
  /** Tokens that the model as split answers, the likeliest one after another. */
  answer: number[];
}

/** Tokens of an answer where nobody says how long one is. */
export const ANSWER_TOKENS = 16;
/** A right answer may be cut into other tokens than its text by itself. */
const SPARE_TOKENS = 4;
const CHOOSING_SHARE = 3;

/** Tokenises the prompts and lets the model as split answer them. Errors: `usage`, naming the line; as resolveBlocks. */
export async function prepareModel(
  sessions: PartSessions,
  model: { name: string; document: ModelDocument; text: TextModel },
  { lines, signal }: { lines: readonly CalibrationLine[]; signal?: AbortSignal | undefined },
): Promise<MeasuredModel> {
  const questions = lines.map((line) => encodeLine(line, model));
  const { asked, ...answering } = await askModel(sessions, model, { questions, signal });
  return {
    ...model,
    ...answering,
    choosing: asked.filter((_, at) => at % CHOOSING_SHARE === 0),
    heldOut: asked.filter((_, at) => at % CHOOSING_SHARE !== 0),
  };
}

/** A prompt before the model was asked. */
export type Asking = Omit<AskedPrompt, "answer">;

/** Lets a model answer. Errors: as resolveBlocks. */
export async function askModel(
  sessions: PartSessions,
  model: { name: string; document: ModelDocument },
  { questions, signal }: { questions: readonly Asking[]; signal?: AbortSignal | undefined },
): Promise<{ chain: BlockedChain; prefillChunk: number; asked: AskedPrompt[] }> {
  const chain = await resolveBlocks(sessions.source, model);
  const prefillChunk = scalesByCall(model.document) ? Infinity : engineConfig().prefillChunk;
  const answers = await answerGreedily(sessions, chain, { questions, prefillChunk, signal });
  return { chain, prefillChunk, asked: questions.map((question, at) => ({ ...question, answer: answers[at]! })) };
}

/** A prompt with its answer as the model is fed it: after the last token of the answer nothing is asked. */
export function sequenceOf({ tokens, answer }: AskedPrompt): number[] {
  return [...tokens, ...answer.slice(0, -1)];
}

/** For every position of all sequences, one after another: does it choose a token of an answer? */
export function answerPositions(prompts: readonly AskedPrompt[]): boolean[] {
  return prompts.flatMap((prompt) => sequenceOf(prompt).map((_, at) => at >= prompt.tokens.length - 1));
}

/** Throws `usage` for a line that does not fit the model. */
export function encodeLine(
  { question, answer, place }: CalibrationLine,
  { name, document, text }: { name: string; document: ModelDocument; text: TextModel },
): Asking {
  const tokens = encodeQuestion(question, { text, place });
  const limit = answer === null ? ANSWER_TOKENS : text.tokenizer.encode(answer, { plain: true }).length + SPARE_TOKENS;
  const room = document.contextLength ?? Infinity;
  if (tokens.length === 0 || tokens.length + limit > room) {
    throw new BlockllmError(
      "usage",
      `--calibration: ${place}: ${tokens.length} tokens and an answer of ${limit} do not fit ${name}, which holds ${room}`,
      { hint: 'shorten the prompt, or limit the line to other models with "model"' },
    );
  }
  return { tokens, expected: answer, limit };
}

function encodeQuestion(
  question: CalibrationLine["question"],
  { text, place }: { text: TextModel; place: string },
): number[] {
  try {
    return "prompt" in question ? encodePrompt(text, question.prompt) : encodeChat(text, question.messages);
  } catch (cause) {
    if (!(cause instanceof BlockllmError)) throw cause;
    const hint = cause.hint === undefined ? {} : { hint: cause.hint };
    throw new BlockllmError("usage", `--calibration: ${place}: ${cause.message}`, { ...hint, cause });
  }
}
