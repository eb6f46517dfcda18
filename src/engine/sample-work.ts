import { BlockllmError } from "../support/errors.ts";
import { asEngineError } from "./engine-error.ts";
import type { SampledToken } from "./request.ts";
import type { Work } from "./schedule/next-work.ts";

/** What an executor gave for one piece of work, or why nothing. */
export type Logits = Float32Array | BlockllmError;

/** A model's answer to one piece of work: its next tokens, and why no more can come. */
export interface Outcome {
  sampled: SampledToken[];
  error: BlockllmError | null;
}

/**
 * Draws from one row after the other while the draft said what was drawn: each row then holds what the sequence would
 * have been given one by one, and the sampler draws as often as it would have. `logits` are [1 + draft, vocabulary].
 */
export function sampleWork({ sequence, draft, samples }: Work, logits: Logits): Outcome {
  if (logits instanceof BlockllmError) return { sampled: [], error: logits };
  const sampled: SampledToken[] = [];
  const rows = samples ? 1 + draft.length : 0;
  const width = logits.length / rows;
  try {
    for (let row = 0; row < rows; row++) {
      const drawn = sequence.sampler.sample(logits.subarray(row * width, (row + 1) * width));
      sampled.push(drawn);
      if (drawn.token !== draft[row] || sequence.stopTokens.has(drawn.token)) break;
    }
    return { sampled, error: null };
  } catch (error) {
    return { sampled, error: asEngineError(error) };
  }
}
