import type { Sequence } from "../sequence.ts";

/** One call of one sequence in a step: feed tokens [start, start + count). */
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
export function nextWork(sequence: Sequence, start = sequence.cached): Work {
  const { promptLength, tokens, model } = sequence;
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

/** `rows` that nobody else wants go to further chunks of the prompts, in turns: a large run costs less per row. */
export function withChunksBehind(first: readonly Work[], rows: number): Work[] {
  const work = [...first];
  let left = rows;
  for (let round = first; round.length > 0;) {
    round = round.flatMap((one) => {
      const next = chunkBehind(one);
      if (next === null || next.count > left) return [];
      left -= next.count;
      return [next];
    });
    work.push(...round);
  }
  return work;
}

/**
 * The chunk of a prompt behind this one, which may run in the same step: the core attends chunk by chunk all the same. Null:
 * the prompt ends here, or the model's caches take one chunk at a time.
 */
function chunkBehind({ sequence, start, count, stepwise }: Work): Work | null {
  const end = start + count;
  if (stepwise || end >= sequence.promptLength || sequence.model.byCapacity) return null;
  return nextWork(sequence, end);
}

export function isDecode(sequence: Sequence): boolean {
  return sequence.cached >= sequence.promptLength && sequence.tokens.length - sequence.cached === 1;
}
