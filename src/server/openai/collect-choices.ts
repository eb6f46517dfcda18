import type { ChoiceEvent, FinishReason, OutputToken } from "../generation.ts";

/** A whole answer, as responses that are not streamed give it. */
export interface CollectedChoice {
  index: number;
  text: string;
  tokens: OutputToken[];
  reason: FinishReason;
  completionTokens: number;
  reusedTokens: number;
}

/** All choices, complete, by index. */
export async function collectChoices(events: AsyncIterable<ChoiceEvent>): Promise<CollectedChoice[]> {
  const begun = new Map<number, { text: string; tokens: OutputToken[] }>();
  const ended: CollectedChoice[] = [];
  for await (const event of events) {
    const choice = begun.get(event.index) ?? { text: "", tokens: [] };
    choice.text += event.text;
    choice.tokens.push(...event.tokens);
    begun.set(event.index, choice);
    if (event.type === "choice-end") {
      ended.push({
        ...choice,
        index: event.index,
        reason: event.reason,
        completionTokens: event.completionTokens,
        reusedTokens: event.reusedTokens,
      });
    }
  }
  return ended.toSorted((a, b) => a.index - b.index);
}
