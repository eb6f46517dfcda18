import type { ChoiceEvent } from "../generation.ts";
import { toFinishReason } from "./finish-reason.ts";
import type { WireUsage } from "./wire.ts";

/** What every piece of one response carries. */
export interface ResponseHead {
  id: string;
  created: number;
  model: string;
}

/** How one endpoint writes a choice. `start` is null where nothing precedes the first piece of text. */
export interface ChunkWriter {
  object: string;
  start: ((index: number) => object) | null;
  delta(event: ChoiceEvent): object;
  /** What the last piece of a choice carries in place of a delta. */
  empty(): object;
}

export interface ChunkStream {
  head: ResponseHead;
  writer: ChunkWriter;
  /** How many choices there are, and the tokens of all prompts. */
  choices: number;
  promptTokens: number;
  /** `stream_options.include_usage`: one more chunk with the usage, and `usage: null` in the others. */
  includeUsage: boolean;
}

/**
 * The chunks of one streamed response, in order: for every choice a start, its deltas, and one last chunk with the
 * finish reason; then the usage, if asked for.
 */
export async function* toChunks(events: AsyncIterable<ChoiceEvent>, stream: ChunkStream): AsyncGenerator<object, void> {
  const { writer, head, promptTokens } = stream;
  const chunk = (choices: object[], usage: WireUsage | null): object => ({
    id: head.id,
    object: writer.object,
    created: head.created,
    model: head.model,
    choices,
    ...(stream.includeUsage ? { usage } : {}),
  });
  if (writer.start !== null) {
    for (let index = 0; index < stream.choices; index++) yield chunk([writer.start(index)], null);
  }
  let completionTokens = 0;
  let reusedTokens = 0;
  for await (const event of events) {
    const { index } = event;
    if (event.text !== "" || event.tokens.length > 0) {
      yield chunk([{ index, ...writer.delta(event), finish_reason: null }], null);
    }
    if (event.type === "choice-end") {
      completionTokens += event.completionTokens;
      reusedTokens += event.reusedTokens;
      yield chunk([{ index, ...writer.empty(), finish_reason: toFinishReason(event.reason) }], null);
    }
  }
  if (stream.includeUsage) yield chunk([], toUsage({ promptTokens, completionTokens, reusedTokens }));
}

/** `promptTokens` counts a prompt once; several answers to it may each find it cached. */
export function toUsage({
  promptTokens,
  completionTokens,
  reusedTokens,
}: {
  promptTokens: number;
  completionTokens: number;
  reusedTokens: number;
}): WireUsage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    ...(reusedTokens > 0 && { prompt_tokens_details: { cached_tokens: Math.min(reusedTokens, promptTokens) } }),
  };
}
