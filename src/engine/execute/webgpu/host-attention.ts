import type { CoreSpec } from "../../../blocks/block.ts";

/** The attention core of rows 0..n−1 written out, in float64: what a device is compared with. o: [n, heads × headSize]. */
export function hostAttention(
  { heads, kvHeads, headSize, scale, softcap, window, sinks }: CoreSpec,
  { q, k, v }: { q: Float32Array; k: Float32Array; v: Float32Array },
): Float32Array {
  const rows = q.length / (heads * headSize);
  const o = new Float32Array(rows * heads * headSize);
  for (let row = 0; row < rows; row++) {
    const oldest = window === null ? 0 : Math.max(0, row - window + 1);
    for (let head = 0; head < heads; head++) {
      const group = Math.floor((head * kvHeads) / heads);
      const query = q.subarray((row * heads + head) * headSize, (row * heads + head + 1) * headSize);
      const scores = Array.from({ length: row - oldest + 1 }, (_, at) => {
        const first = ((oldest + at) * kvHeads + group) * headSize;
        const score = query.reduce((sum, value, i) => sum + value * k[first + i]!, 0) * scale;
        return softcap ? softcap * Math.tanh(score / softcap) : score;
      });
      const sink = sinks?.[head] ?? -Infinity;
      const highest = Math.max(sink, ...scores);
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((sum, weight) => sum + weight, Math.exp(sink - highest));
      for (const [at, weight] of weights.entries()) {
        const first = ((oldest + at) * kvHeads + group) * headSize;
        for (let i = 0; i < headSize; i++) o[(row * heads + head) * headSize + i]! += (weight / total) * v[first + i]!;
      }
    }
  }
  return o;
}
