import type { RandomStream } from "./random-stream.ts";

/** How many tokens prompts or answers have. */
export type LengthDistribution =
  | { kind: "fixed"; tokens: number }
  | { kind: "uniform"; from: number; to: number }
  /** exp of a normal: most are near the median, a few are long. Cut at `min` and `max`. */
  | { kind: "lognormal"; median: number; sigma: number; min: number; max: number };

export function drawLength(distribution: LengthDistribution, random: RandomStream): number {
  switch (distribution.kind) {
    case "fixed":
      return distribution.tokens;
    case "uniform":
      return random.whole(distribution.from, distribution.to);
    case "lognormal": {
      const { median, sigma, min, max } = distribution;
      return Math.min(max, Math.max(min, Math.round(median * Math.exp(sigma * random.normal()))));
    }
  }
}

export function longestOf(distribution: LengthDistribution): number {
  if (distribution.kind === "fixed") return distribution.tokens;
  return distribution.kind === "uniform" ? distribution.to : distribution.max;
}
