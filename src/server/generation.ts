import { Channel } from "../support/channel.ts";
import { OutputText } from "../text/output-text.ts";
import type { TextModel } from "../text/text-model.ts";
import type { EndReason, EngineEvent, EngineRequest } from "../engine/request.ts";
import type { Waited } from "../engine/waits.ts";
import type { Engine, EngineHandle } from "./served-engine.ts";

/** One answer to be made: what the engine shall do and how its tokens become text. */
export interface ChoicePlan {
  index: number;
  request: EngineRequest;
  /** null: the model has no tokenizer, its answers are token ids. */
  text: TextModel | null;
  stops: readonly string[];
}

export type FinishReason = Exclude<EndReason, "error">;

/** Each choice gives any number of deltas and then exactly one end. */
export type ChoiceEvent =
  | {
      type: "choice-delta";
      index: number;
      text: string;
      tokens: OutputToken[];
      /** Before its first token. */
      waited: Waited | null;
    }
  | {
      type: "choice-end";
      index: number;
      /** The last of the text and of the tokens. */
      text: string;
      tokens: OutputToken[];
      reason: FinishReason;
      completionTokens: number;
      /** Tokens of the prompt that were found cached. */
      reusedTokens: number;
      /** In all. */
      waited: Waited | null;
      firstTokenSeconds: number | null;
    };

export interface OutputToken {
  id: number;
  /** Where its text begins in the answer, in UTF-16 units. */
  offset: number;
  logprob: number | null;
  top: { token: number; logprob: number }[];
}

export interface Generation {
  /** Of all choices, as they come. An engine's error is thrown here, after every other choice was cancelled. */
  events: AsyncIterableIterator<ChoiceEvent>;
  /** Ends all choices early with reason `cancelled`. */
  cancel(): void;
  /** Resolves when nothing of it runs any more. Never rejects. */
  done: Promise<void>;
}

/** What the metrics want to know. */
export interface GenerationObserver {
  onStart(request: EngineRequest): void;
  onToken(request: EngineRequest): void;
  onEnd(request: EngineRequest, end: AnswerEnd): void;
}

export interface AnswerEnd {
  reason: FinishReason | "error";
  firstTokenSeconds: number | null;
  /** Mean of its later tokens. */
  tokenSeconds: number | null;
  /** null: it never came to the engine. */
  waited: Waited | null;
}

/**
 * Starts all choices at once. Whoever leaves `events` early cancels them.
 * @throws what `engine.submit` throws; nothing runs then.
 */
export function startGeneration(
  engine: Engine,
  plans: readonly ChoicePlan[],
  observer: GenerationObserver,
): Generation {
  const handles: EngineHandle[] = [];
  const cancel = (): void => handles.forEach((handle) => handle.cancel());
  try {
    for (const plan of plans) handles.push(engine.submit(plan.request));
  } catch (error) {
    cancel();
    throw error;
  }
  const events = new Channel<ChoiceEvent>(cancel);
  const choices = plans.map(async (plan, place) => {
    try {
      await runChoice(plan, handles[place]!, { push: (event) => events.push(event), observer });
    } catch (error) {
      events.fail(error);
      cancel();
    }
  });
  const done = Promise.all(choices).then(() => events.close());
  return { events, cancel, done };
}

interface ChoiceOutput {
  push: (event: ChoiceEvent) => void;
  observer: GenerationObserver;
}

async function runChoice(plan: ChoicePlan, handle: EngineHandle, { push, observer }: ChoiceOutput): Promise<void> {
  const watch = startWatch(plan.request, observer);
  const output = plan.text === null ? null : new OutputText(plan.text.tokenizer, plan.stops);
  const { index } = plan;
  let waiting: OutputToken[] = [];
  let decodedLength = 0;
  let shownLength = 0;
  let completionTokens = 0;
  let reusedTokens = 0;
  let waited: Waited | null = null;

  const end = (reason: FinishReason, text: string): void => {
    shownLength += text.length;
    // Tokens of which not one character is shown lie in or behind a stop string.
    const tokens = output?.stopped ? waiting.filter((token) => token.offset < shownLength) : waiting;
    const { firstTokenSeconds } = watch.end(reason, waited);
    const counts = { completionTokens, reusedTokens, waited, firstTokenSeconds };
    push({ type: "choice-end", index, text, tokens, reason, ...counts });
  };

  try {
    for await (const event of handle.events) {
      waited = event.waited ?? waited;
      if (event.type === "request-end") {
        if (event.reason === "error") throw event.error ?? new Error("the engine did not name its error");
        completionTokens = event.completionTokens;
        reusedTokens = event.reusedTokens ?? 0;
        return end(event.reason, output?.finish() ?? "");
      }
      watch.token();
      completionTokens++;
      const { decoded, text } = output?.push(event.token) ?? { decoded: "", text: "" };
      waiting.push(outputToken(event, decodedLength));
      decodedLength += decoded.length;
      if (output?.stopped) {
        handle.cancel();
        return end("stop", text);
      }
      if (text === "" && output !== null) continue;
      shownLength += text.length;
      push({ type: "choice-delta", index, text, tokens: waiting, waited });
      waiting = [];
    }
  } catch (error) {
    watch.end("error", waited);
    throw error;
  }
  watch.end("error", waited);
  throw new Error(`the engine left choice ${index} of model ${plan.request.model} without an end`);
}

function outputToken(event: EngineEvent & { type: "token-delta" }, offset: number): OutputToken {
  return { id: event.token, offset, logprob: event.logprob ?? null, top: event.topLogprobs ?? [] };
}

/** Time to the first token, and the mean time of each later one. */
function startWatch(request: EngineRequest, observer: GenerationObserver) {
  observer.onStart(request);
  const started = performance.now();
  let first: number | null = null;
  let last = started;
  let tokens = 0;
  return {
    token: (): void => {
      last = performance.now();
      first ??= last;
      tokens++;
      observer.onToken(request);
    },
    end: (reason: FinishReason | "error", waited: Waited | null): AnswerEnd => {
      const firstTokenSeconds = first === null ? null : (first - started) / 1000;
      const tokenSeconds = first === null || tokens < 2 ? null : (last - first) / 1000 / (tokens - 1);
      const end = { reason, firstTokenSeconds, tokenSeconds, waited };
      observer.onEnd(request, end);
      return end;
    },
  };
}
