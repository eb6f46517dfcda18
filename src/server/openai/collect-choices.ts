import type { Waited } from "../../engine/waits.ts";
import type { ChoiceEvent, FinishReason, OutputToken } from "../generation.ts";

/** A whole answer, as responses that are not streamed give it. */
export interface CollectedChoice {
  index: number;
  text: string;
  tokens: OutputToken[];
  reason: FinishReason;
  completionTokens: number;
  reusedTokens: number;
  waited: Waited | null;
  firstTokenSeconds: number | null;
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
      const { index, reason, completionTokens, reusedTokens, waited, firstTokenSeconds } = event;
      ended.push({ ...choice, index, reason, completionTokens, reusedTokens, waited, firstTokenSeconds });
    }
  }
  return ended.toSorted((a, b) => a.index - b.index);
}
