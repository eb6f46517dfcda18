import { afterEach, describe, expect, test } from "vitest";
import type { CoreSpec } from "../../src/blocks/block.ts";
import { AttentionCores } from "../../src/engine/execute/attention-core.ts";
import { SequenceCache } from "../../src/engine/kv/sequence-cache.ts";

const PLAIN: CoreSpec = {
  heads: 4,
  kvHeads: 2,
  headSize: 8,
  valueHeadSize: 8,
  scale: 0.3,
  window: null,
  softcap: null,
  alibiSlopes: null,
  sinks: null,
};
const SPECS: [string, CoreSpec][] = [
  ["grouped heads", PLAIN],
  ["another value size", { ...PLAIN, valueHeadSize: 12 }],
  ["a window", { ...PLAIN, window: 5 }],
  ["a window of one", { ...PLAIN, window: 1 }],
  ["a softcap", { ...PLAIN, softcap: 1.5 }],
  ["softcap and window", { ...PLAIN, softcap: 1.5, window: 6 }],
  ["ALiBi", { ...PLAIN, alibiSlopes: [0.5, 0.25, 0.125, 0.0625] }],
  ["ALiBi and window", { ...PLAIN, alibiSlopes: [0.5, 0.25, 0.125, 0.0625], window: 7 }],
  ["sinks", { ...PLAIN, sinks: [0.5, -1, 2, 0] }],
  ["sinks and window", { ...PLAIN, sinks: [0.5, -1, 2, 0], window: 4 }],
];
/** Calls as an engine makes them: a prompt of two chunks of 16, the second not full, then decodes. */
const CALLS = [16, 9, 1, 1, 1];
const TOKENS = CALLS.reduce((sum, count) => sum + count, 0);

let cores: AttentionCores | undefined;
afterEach(async () => cores?.close());

describe.each(SPECS)("an attention core with %s", (_, spec) => {
  test("attends as the formula says, call after call", async () => {
    cores = new AttentionCores(2);
    await cores.load([spec]);
    const [q, k, v] = [spec.heads * spec.headSize, spec.kvHeads * spec.headSize, spec.kvHeads * spec.valueHeadSize].map(
      (width, which) => values(TOKENS * width, which + 1),
    ) as [Float32Array, Float32Array, Float32Array];
    const expected = reference(spec, { q, k, v });
    const cache = new SequenceCache([spec], TOKENS);
    let start = 0;
    for (const count of CALLS) {
      const rows = (all: Float32Array): Float32Array =>
        all.subarray((start * all.length) / TOKENS, ((start + count) * all.length) / TOKENS);
      cache.reserve(start + count);
      cache.layers[0]!.write(start, rows(k), rows(v));
      const given = await cores.attend([{ core: spec, cache: cache.layers[0]!, start, count, query: rows(q) }]);
      cores.endStep();
      const width = spec.heads * spec.valueHeadSize;
      given.forEach((value, at) => expect(Math.abs(value - expected[start * width + at]!)).toBeLessThan(2e-6));
      start += count;
    }
  });
});

test("a yielded sequence's cache is empty again, and its sink row too", async () => {
  const spec = { ...PLAIN, sinks: [0.5, -1, 2, 0] };
  cores = new AttentionCores(1);
  await cores.load([spec]);
  const cache = new SequenceCache([spec], 64);
  const attend = async (): Promise<Float32Array> => {
    cache.reserve(20);
    cache.layers[0]!.write(0, values(20 * 16, 2), values(20 * 16, 3));
    return await cores!.attend([
      { core: spec, cache: cache.layers[0]!, start: 0, count: 20, query: values(20 * 32, 1) },
    ]);
  };
  const first = (await attend()).slice();
  cache.release();
  expect(cache.byteLength).toBe(0);
  expect(await attend()).toEqual(first);
});

/** softmax(scale·q·kᵀ, capped, biased, masked, with the sink beside)·v in double. */
function reference(spec: CoreSpec, { q, k, v }: { q: Float32Array; k: Float32Array; v: Float32Array }): Float64Array {
  const { heads, kvHeads, headSize, valueHeadSize } = spec;
  const output = new Float64Array(TOKENS * heads * valueHeadSize);
  for (let token = 0; token < TOKENS; token++) {
    for (let head = 0; head < heads; head++) {
      const group = Math.floor((head * kvHeads) / heads);
      const first = spec.window === null ? 0 : Math.max(0, token - spec.window + 1);
      const scores = Array.from({ length: token + 1 - first }, (_, at) => {
        let dot = 0;
        for (let i = 0; i < headSize; i++)
          dot += q[(token * heads + head) * headSize + i]! * k[((first + at) * kvHeads + group) * headSize + i]!;
        const score =
          spec.softcap === null ? dot * spec.scale : spec.softcap * Math.tanh((dot * spec.scale) / spec.softcap);
        return score + (spec.alibiSlopes?.[head] ?? 0) * (first + at - token);
      });
      const weights = scores.map((score) => Math.exp(score));
      const total = weights.reduce((sum, weight) => sum + weight, spec.sinks ? Math.exp(spec.sinks[head]!) : 0);
      for (let i = 0; i < valueHeadSize; i++) {
        output[(token * heads + head) * valueHeadSize + i] = weights.reduce(
          (sum, weight, at) => sum + (weight / total) * v[((first + at) * kvHeads + group) * valueHeadSize + i]!,
          0,
        );
      }
    }
  }
  return output;
}

function values(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, at) => Math.sin(at * 12.9898 + seed * 78.233) * 1.5);
}
