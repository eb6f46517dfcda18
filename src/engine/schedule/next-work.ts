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
  /** Of a whole chunk of a prompt: pieces kept for the chain's first stretches, from other models that came that way. */
  shared: readonly Float32Array[];
  /** What reached the chain's partings while it ran, by step. */
  partingRows: Map<number, Float32Array>;
}

/**
 * The next call of a sequence. It depends on the sequence alone, never on load: the prompt in chunks on a fixed grid,
 * then generated tokens. One generated token left is a decode; more are a replay after yielding.
 */
export function nextWork(sequence: Sequence): Work {
  const { cached: start, promptLength, tokens, model } = sequence;
  const replays = start >= promptLength;
  const end = Math.min(replays ? tokens.length : promptLength, start + model.prefillChunk);
  return {
    sequence,
    start,
    count: end - start,
    stepwise: replays,
    samples: end === tokens.length,
    draft: [],
    shared: [],
    partingRows: new Map(),
  };
}

export function isDecode(sequence: Sequence): boolean {
  return sequence.cached >= sequence.promptLength && sequence.tokens.length - sequence.cached === 1;
}
