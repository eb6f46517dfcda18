import { biasAt } from "./lift-scores.ts";
import type { Probe } from "./probe.ts";
import { Unliftable, type Scores } from "./value.ts";

/** What a mask turned out to be: causal always; a window when it hides older keys; ALiBi when it adds slopes. */
export interface MaskFinding {
  window: number | null;
  alibiSlopes: number[] | null;
  /** Nothing hides the later tokens of a call: the graph was made to be fed one token at a time (decoder_with_past). */
  unordered: boolean;
}

/**
 * Reads the meaning of a mask from its numbers at the probe: query s (at position past + s) must see itself, nothing
 * later, and either everything before or the last `window` keys. Anything else is refused: it would be silently wrong.
 * One exception: where no query's later keys are hidden at all, order can only come from feeding token by token.
 */
export function recogniseMask(scores: Scores, heads: number, probe: Probe, node: string): MaskFinding {
  const { past, sequence } = probe;
  const total = past + sequence;
  let window: number | null = null;
  const unordered = sequence > 1 && biasAt(scores, 0, 0, total - 1) > -Infinity;
  const slopes = new Float64Array(heads);
  // ALiBi differs by head; every other mask is the same for all, and the longest probes would make this loop slow.
  const headsToRead = scores.bias !== null && scores.bias.dims.slice(0, -2).some((dim) => dim > 1) ? heads : 1;
  for (let head = 0; head < headsToRead; head++) {
    for (let s = 0; s < sequence; s++) {
      const own = past + s;
      let first = own;
      while (first > 0 && biasAt(scores, head, s, first - 1) > -Infinity) first--;
      if (biasAt(scores, head, s, own) === -Infinity)
        throw new Unliftable(node, `the mask hides position ${own} from itself`);
      for (let t = 0; t < total; t++) {
        const visible = biasAt(scores, head, s, t) > -Infinity;
        if (visible !== (t >= first && (t <= own || unordered)))
          throw new Unliftable(node, `the mask is neither causal nor a sliding window at query ${own}, key ${t}`);
      }
      if (first > 0) {
        if (window !== null && window !== own - first + 1)
          throw new Unliftable(node, "the mask's window changes from query to query");
        window = own - first + 1;
      } else if (window !== null && own + 1 > window)
        throw new Unliftable(node, "the mask's window changes from query to query");
      slopes[head] = slopeAt(scores, { head, s, own, first, fallback: slopes[head]! }, node);
    }
  }
  const sloped = slopes.some((slope) => slope !== 0);
  if (sloped && headsToRead === 1 && heads > 1) slopes.fill(slopes[0]!);
  return { window, alibiSlopes: sloped ? Array.from(slopes) : null, unordered };
}

/** The bias may only be linear in the key's position: its slope is ALiBi's; a constant shift does not change a softmax. */
function slopeAt(
  scores: Scores,
  { head, s, own, first, fallback }: { head: number; s: number; own: number; first: number; fallback: number },
  node: string,
): number {
  if (own - first < 1) return fallback;
  const at = (t: number): number => biasAt(scores, head, s, t);
  const slope = (at(own) - at(first)) / (own - first);
  for (let t = first; t <= own; t++) {
    if (Math.abs(at(t) - (at(own) + slope * (t - own))) > 1e-3 * Math.max(1, Math.abs(at(t))))
      throw new Unliftable(node, `the mask adds ${at(t)} to the score of key ${t}`);
  }
  return Math.fround(slope);
}

/** Whether what a short probe saw agrees with the window a long one found. */
export function sameWindow(seen: number | null, window: number | null, probe: Probe): boolean {
  const visible = window !== null && window < probe.past + probe.sequence ? window : null;
  return seen === visible;
}
