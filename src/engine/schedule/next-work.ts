import type { Sequence } from "../sequence.ts";

/** What one step does for one sequence: feed tokens [start, start + count). */
export interface Work {
  sequence: Sequence;
  start: number;
  count: number;
  /** Generated tokens pass the attention core one by one, in a replay as when they were decoded. */
  stepwise: boolean;
  /** All known tokens are then fed: the last row's logits give the next. */
  samples: boolean;
  /** Tokens guessed to follow, fed behind the known ones to be verified in the same pass; most often none. */
  draft: readonly number[];
}

/**
 * The next call of a sequence. It depends on the sequence alone, never on load: the prompt in chunks on a fixed grid,
 * then generated tokens. One generated token left is a decode; more are a replay after yielding.
 */
export function nextWork(sequence: Sequence): Work {
  const { cached: start, promptLength, tokens, model } = sequence;
  const replays = start >= promptLength;
  const end = Math.min(replays ? tokens.length : promptLength, start + model.prefillChunk);
  return { sequence, start, count: end - start, stepwise: replays, samples: end === tokens.length, draft: [] };
}

export function isDecode(sequence: Sequence): boolean {
  return sequence.cached >= sequence.promptLength && sequence.tokens.length - sequence.cached === 1;
}
