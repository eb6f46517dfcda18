import fc from "fast-check";
import { Tensor } from "onnxruntime-node";
import { afterAll, expect, test } from "vitest";
import type { CoreSpec } from "../../src/blocks/block.ts";
import { AttentionCores, MOST_SLOTS } from "../../src/engine/execute/attention-core.ts";
import { CoreQueue } from "../../src/engine/execute/core-queue.ts";
import { RowStore, SpareBuffers } from "../../src/engine/execute/row-store.ts";
import type { Standing } from "../../src/engine/execute/standing.ts";
import { SequenceCache } from "../../src/engine/kv/sequence-cache.ts";

const PLAIN: CoreSpec = {
  heads: 6,
  kvHeads: 2,
  headSize: 8,
  valueHeadSize: 8,
  scale: 0.35,
  window: null,
  softcap: null,
  alibiSlopes: null,
  sinks: null,
};
const SPECS: CoreSpec[] = [
  PLAIN,
  { ...PLAIN, window: 9 },
  { ...PLAIN, softcap: 2 },
  { ...PLAIN, kvHeads: 1, valueHeadSize: 12 },
  { ...PLAIN, kvHeads: 6 },
  { ...PLAIN, alibiSlopes: [0.5, 0.25, 0.125, 0.1, 0.05, 0.01] },
  { ...PLAIN, sinks: [0.5, -1, 2, 0, 1, 0.25] },
];

const cores = new AttentionCores(2);
afterAll(async () => cores.close());

/** What one sequence brings to a step: `count` rows behind `past` tokens. */
interface Brought {
  spec: number;
  past: number;
  count: number;
  stepwise: boolean;
  seed: number;
}

const brought: fc.Arbitrary<Brought> = fc.record({
  spec: fc.nat(SPECS.length - 1),
  past: fc.integer({ min: 0, max: 140 }),
  count: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.integer({ min: 2, max: 7 }) }),
  stepwise: fc.boolean(),
  seed: fc.nat(1000),
});

test("rows have the bits they have alone, whoever waits beside them and in whatever order they came", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(brought, { minLength: 1, maxLength: 2 * MOST_SLOTS + 3 }),
      fc.infiniteStream(fc.nat()),
      async (all, draws) => {
        const order = all.map((_, at) => [draws.next().value as number, at] as const);
        const mixed = await attendTogether(
          all,
          order.toSorted(([a], [b]) => a - b).map(([, at]) => at),
        );
        for (const [at, one] of all.entries()) {
          const [alone] = await attendTogether([one], [0]);
          const wrong = alone!.findIndex((value, place) => !Object.is(value, mixed[at]![place]));
          expect(wrong, `first value of ${JSON.stringify(one)} that differs`).toBe(-1);
        }
      },
    ),
    { numRuns: 25 },
  );
});

test("only those that stand before the segment, or all, are attended; nobody waits twice", async () => {
  const [first, second] = [
    sequenceOf({ spec: 0, past: 3, count: 1, stepwise: true, seed: 1 }, 0, 0),
    sequenceOf({ spec: 0, past: 3, count: 1, stepwise: true, seed: 2 }, 1, 1),
  ];
  const caches = [first.cache, second.cache];
  const queue = new CoreQueue(cores, (sequence) => caches[sequence]!);
  const values = new RowStore(2, new SpareBuffers());
  const width = PLAIN.heads * PLAIN.valueHeadSize;
  queue.put(first.outputs, [first.standing]);
  await queue.attendFor([second.standing], values);
  expect(() => values.take("o", width, [{ start: 0, count: 1 }])).toThrow("No rows of o");
  queue.put(second.outputs, [second.standing]);
  await queue.attendFor([first.standing], values);
  const both = values.take("o", width, [{ start: 0, count: 2 }]).slice();
  await queue.attendFor([first.standing, second.standing], values);
  expect(values.take("o", width, [{ start: 0, count: 2 }])).toEqual(both);
  expect(both.some((value) => value === 0)).toBe(false);
});

/** The o rows of each, put into one queue in `order`. */
async function attendTogether(all: readonly Brought[], order: readonly number[]): Promise<Float32Array[]> {
  let start = 0;
  const sequences = all.map((one, at) => {
    const sequence = sequenceOf(one, at, start);
    start += one.count;
    return sequence;
  });
  const queue = new CoreQueue(cores, (sequence) => sequences[sequence]!.cache);
  const values = new RowStore(start, new SpareBuffers());
  for (const at of order) queue.put(sequences[at]!.outputs, [sequences[at]!.standing]);
  await queue.attendFor(
    sequences.map(({ standing }) => standing),
    values,
  );
  return sequences.map(({ spec, standing }) =>
    values.take("o", spec.heads * spec.valueHeadSize, [standing.rows]).slice(),
  );
}

function sequenceOf(
  { spec: which, past, count, stepwise, seed }: Brought,
  sequence: number,
  start: number,
): { spec: CoreSpec; cache: SequenceCache; standing: Standing; outputs: Record<string, Tensor> } {
  const spec = SPECS[which]!;
  const rows = { start, count };
  const cache = new SequenceCache([spec], past + count);
  cache.reserve(past + count);
  const [keyWidth, valueWidth] = [spec.kvHeads * spec.headSize, spec.kvHeads * spec.valueHeadSize];
  cache.layers[0]!.write(0, numbers(past * keyWidth, seed), numbers(past * valueWidth, seed + 1));
  const tokens = Array.from({ length: count }, () => 0);
  const item = { sequence, tokens, start: past, logits: "none", stepwise } as const;
  const placed = { item, index: sequence, chain: 0, rows, wanted: { start, count: 0 }, firstStep: 0 };
  const member = { step: 0, rotary: null, adapter: 0, core: { layer: 0, spec }, tail: false };
  const tensor = (width: number, from: number): Tensor =>
    new Tensor("float32", numbers(count * width, seed + from), [1, count, width]);
  const outputs = { q: tensor(spec.heads * spec.headSize, 2), k: tensor(keyWidth, 3), v: tensor(valueWidth, 4) };
  return { spec, cache, standing: { placed, member, rows }, outputs };
}

function numbers(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, at) => Math.sin(at * 12.9898 + seed * 78.233) * 1.5);
}
