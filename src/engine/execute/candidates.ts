/** Tokens that may still be drawn, with weights proportional to their probability. */
export interface Candidates {
  tokens: Int32Array;
  weights: Float64Array;
  total: number;
}

export interface Truncation {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

/** softmax(logits / temperature), then min-p, top-k and top-p in this order. Equal logits rank by token id. */
export function candidates(logits: Float32Array, { temperature, topK, topP, minP }: Truncation): Candidates {
  const weights = softmaxWeights(logits, temperature);
  let kept = keepAbove(weights, minP);
  if (topK > 0 && topK < kept.length) kept = rankByWeight(keepLargest(kept, weights, topK), weights).subarray(0, topK);
  if (topP < 1) kept = nucleus(kept, weights, topP);
  const keptWeights = Float64Array.from(kept, (token) => weights[token]!);
  return { tokens: kept, weights: keptWeights, total: sum(keptWeights) };
}

/** Walks the weights until `fraction` of their total is passed. */
export function draw({ tokens, weights, total }: Candidates, fraction: number): number {
  let left = fraction * total;
  for (let place = 0; place < tokens.length; place++) {
    left -= weights[place]!;
    if (left < 0) return tokens[place]!;
  }
  return tokens[tokens.length - 1]!;
}

/** The `count` tokens with the highest logits, best first. */
export function topTokens(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]!;
    if (best.length === count && !(logit > logits[best[count - 1]!]!)) continue;
    let place = best.length;
    while (place > 0 && logit > logits[best[place - 1]!]!) place--;
    best.splice(place, 0, token);
    if (best.length > count) best.pop();
  }
  return best;
}

/** Relative to the likeliest token, whose weight is 1. */
function softmaxWeights(logits: Float32Array, temperature: number): Float64Array {
  let highest = -Infinity;
  for (const logit of logits) if (logit > highest) highest = logit;
  const weights = new Float64Array(logits.length);
  for (let token = 0; token < weights.length; token++)
    weights[token] = Math.exp((logits[token]! - highest) / temperature);
  return weights;
}

function keepAbove(weights: Float64Array, least: number): Int32Array {
  const kept = new Int32Array(weights.length);
  let count = 0;
  for (let token = 0; token < weights.length; token++) if (weights[token]! >= least) kept[count++] = token;
  return kept.subarray(0, count);
}

/** A superset of the k heaviest that is cheap to sort: all at least as heavy as the k-th. */
function keepLargest(tokens: Int32Array, weights: Float64Array, count: number): Int32Array {
  const sorted = Float64Array.from(tokens, (token) => weights[token]!).toSorted();
  const least = sorted[sorted.length - count]!;
  return tokens.filter((token) => weights[token]! >= least);
}

/**
 * The heaviest tokens that together reach `share`. Tokens below (1 − share) / n of the total cannot be among them: even
 * all together they do not reach 1 − share. So only the few others are sorted.
 */
function nucleus(tokens: Int32Array, weights: Float64Array, share: number): Int32Array {
  const total = tokens.reduce((part, token) => part + weights[token]!, 0);
  const least = ((1 - share) * total) / tokens.length;
  const ranked = rankByWeight(
    tokens.filter((token) => weights[token]! >= least),
    weights,
  );
  let left = share * total;
  const end = ranked.findIndex((token) => (left -= weights[token]!) <= 0);
  return end === -1 ? ranked : ranked.subarray(0, end + 1);
}

function rankByWeight(tokens: Int32Array, weights: Float64Array): Int32Array {
  return tokens.toSorted((a, b) => weights[b]! - weights[a]! || a - b);
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
