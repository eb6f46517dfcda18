import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BatchItem, Executor } from "../../src/engine/execute/executor.ts";

export interface ExecutorCase {
  executor: Executor;
  /** Two models it holds, or one twice. */
  models: [string, string];
  vocabSize: number;
  /** Its first model's state is kept token by token. */
  truncates: boolean;
  /** State can be taken out and put in; default: where it truncates. */
  readsState?: boolean;
  close(): Promise<void>;
}

const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6];

function item(sequence: number, more: Partial<BatchItem> = {}): BatchItem {
  return { sequence, tokens: PROMPT, start: 0, logits: "last", stepwise: false, ...more };
}

/** What the engine relies on, whatever runs the models. */
export function describeExecutor(name: string, open: () => Promise<ExecutorCase>): void {
  describe(`${name} as an executor`, () => {
    let given: ExecutorCase;
    let executor: Executor;
    let model: string;
    let nextSequence = 1;
    beforeAll(async () => {
      given = await open();
      ({ executor } = given);
      [model] = given.models;
    });
    afterAll(async () => given.close());

    function begin(of = model): number {
      executor.open(nextSequence, { model: of, maxTokens: 32 });
      return nextSequence++;
    }
    const run = async (...items: BatchItem[]): Promise<Float32Array[]> =>
      (await executor.execute(items)).map((rows) => rows.slice());

    test("gives no, one or all rows of logits as asked", async () => {
      const { vocabSize } = given;
      const [none, last, all] = await run(
        item(begin(), { logits: "none" }),
        item(begin()),
        item(begin(), { logits: "all" }),
      );
      expect([none!.length, last!.length, all!.length]).toEqual([0, vocabSize, PROMPT.length * vocabSize]);
      const difference = last!.map((logit, token) => Math.abs(logit - all!.at(token - vocabSize)!));
      expect(Math.max(...difference)).toBeLessThan(1e-5);
    });

    test("gives a sequence the same bits alone and beside others", async () => {
      const [alone] = await run(item(begin()));
      const [first, second, other] = await run(
        item(begin()),
        item(begin()),
        item(begin(given.models[1]), { tokens: [7, 8] }),
      );
      expect([first, second]).toEqual([alone, alone]);
      expect(other).not.toEqual(alone);
    });

    test("continues a sequence where it stood, in any step and any batch", async () => {
      const [straight, mixed] = [begin(), begin()];
      const expected: Float32Array[] = [];
      for (const [start, tokens] of [
        [0, PROMPT],
        [8, [5]],
        [9, [3]],
      ] as const)
        expected.push((await run(item(straight, { start, tokens })))[0]!);
      await run(item(begin(), { tokens: [9] }), item(mixed));
      const given8 = (await run(item(mixed, { start: 8, tokens: [5] }), item(begin())))[0];
      const given9 = (await run(item(begin()), item(mixed, { start: 9, tokens: [3] })))[1];
      expect([given8, given9]).toEqual(expected.slice(1));
    });

    test("replays generated tokens stepwise in one call with the bits of single calls", async () => {
      const [single, replayed] = [begin(), begin()];
      await run(item(single), item(replayed));
      let expected: Float32Array | undefined;
      for (const [at, token] of [5, 3, 5].entries())
        [expected] = await run(item(single, { start: 8 + at, tokens: [token], stepwise: true }));
      const [given3] = await run(item(replayed, { start: 8, tokens: [5, 3, 5], stepwise: true }));
      expect(given3).toEqual(expected);
    });

    test("forgets what it is truncated by, and goes on with the bits of a sequence that never had it", async () => {
      if (!given.truncates) return;
      const [plain, truncated] = [begin(), begin()];
      await run(item(plain), item(truncated));
      const [, drafted] = await run(
        item(plain, { start: 8, tokens: [5], stepwise: true }),
        item(truncated, { start: 8, tokens: [5, 9, 9], logits: "all", stepwise: true }),
      );
      expect(drafted!.length).toBe(3 * given.vocabSize);
      executor.truncate(truncated, 9);
      const [expected, after] = await run(
        item(plain, { start: 9, tokens: [3], stepwise: true }),
        item(truncated, { start: 9, tokens: [3], stepwise: true }),
      );
      expect(after).toEqual(expected);
    });

    test("goes on from state read from another sequence with the bits of that one", async () => {
      if (!(given.readsState ?? given.truncates)) return;
      const [first, second] = [begin(), begin()];
      await run(item(first));
      executor.writeState(second, { from: 0, to: 5 }, executor.readState(first, { from: 0, to: 5 }));
      executor.writeState(second, { from: 5, to: 8 }, executor.readState(first, { from: 5, to: 8 }));
      const next = { start: 8, tokens: [3, 1] };
      const [expected, after] = await run(item(first, next), item(second, next));
      expect(after).toEqual(expected);
    });

    test("gives memory back at release, and begins anew under the same number", async () => {
      const before = executor.stateBytes();
      const sequence = begin();
      const [first] = await run(item(sequence));
      expect(executor.stateBytes()).toBeGreaterThan(before);
      executor.release(sequence);
      expect(executor.stateBytes()).toBe(before);
      executor.release(sequence);
      executor.open(sequence, { model, maxTokens: 32 });
      expect(await run(item(sequence))).toEqual([first]);
    });

    test("does nothing for an empty batch", async () => {
      expect(await executor.execute([])).toEqual([]);
    });
  });
}
