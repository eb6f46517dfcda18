/**
 * Zipf's law over `count` ranks: rank r is asked 1 / r^exponent as often as the first; exponent 0: all alike. Gives the
 * rank, from 0, for a number in [0, 1).
 */
export function zipfRanks(count: number, exponent: number): (uniform: number) => number {
  const weights = Array.from({ length: count }, (_, rank) => (rank + 1) ** -exponent);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  const upTo = weights.map((weight) => (sum += weight) / total);
  return (uniform) => {
    const rank = upTo.findIndex((share) => uniform < share);
    return rank === -1 ? count - 1 : rank;
  };
}
