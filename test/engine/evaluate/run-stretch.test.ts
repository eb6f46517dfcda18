import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { answerGreedily } from "../../../src/engine/evaluate/answer-greedily.ts";
import { canBeEntered, resolveBlocks } from "../../../src/engine/evaluate/chain-stretch.ts";
import { PartSessions } from "../../../src/engine/evaluate/part-sessions.ts";
import { runStretch } from "../../../src/engine/evaluate/run-stretch.ts";
import { openForward } from "../../../src/engine/forward.ts";
import { splitFixtures, type SplitFixtures } from "../../blocks/split-fixtures.ts";

const MODELS = [
  "desk/genai/finance-lora",
  "desk/genai-int4/support",
  "exports/genai_v0.18.0/gemma3-dml-fp16",
  "exports/optimum/gpt2",
  "exports/optimum/phi3",
  "exports/tjs/model_quantized",
];
const LENGTHS = [1, 17, 90, 5];

let split: SplitFixtures;
beforeAll(async () => (split = await splitFixtures(MODELS)), 60_000);
afterAll(async () => await split.remove());

async function open(path: string) {
  const { document } = split.models.get(path)!;
  const sessions = new PartSessions(split.repository, 1);
  const chain = await resolveBlocks(split.repository, { name: path, document });
  const forward = await openForward(split.repository, path, { threads: 1 });
  const sequences = LENGTHS.map((length, which) =>
    Array.from({ length }, (_, i) => (7 + which * 1009 + i * 7919) % document.vocabSize),
  );
  const { prefillChunk } = forward.model;
  return {
    document,
    sessions,
    chain,
    forward,
    sequences,
    prefillChunk,
    close: async () => {
      await sessions.close();
      await forward.close();
    },
  };
}

describe.each(MODELS)("%s", (path) => {
  it("gives in batches of single parts what the engine gives", async () => {
    const { sessions, chain, forward, sequences, prefillChunk, document, close } = await open(path);
    let row = 0;
    const logits = new Float32Array(LENGTHS.reduce((sum, length) => sum + length, 0) * document.vocabSize);
    const run = { from: 0, to: document.chain.length, sequences, prefillChunk, lastOnly: true };
    for await (const { firstRow, rowCount, blocks } of runStretch(sessions, chain, run)) {
      expect(firstRow).toBe(row);
      row += rowCount;
      logits.set(blocks[0]!.values, firstRow * document.vocabSize);
    }
    let first = 0;
    for (const tokens of sequences) {
      const expected = await forward.logits(tokens);
      const given = logits.subarray(first * document.vocabSize, (first + tokens.length) * document.vocabSize);
      const most = expected.reduce((worst, value, i) => Math.max(worst, Math.abs(value - given[i]!)), 0);
      // Where activations are rounded, a last-bit difference of fused and single parts can move a rounding.
      expect(most).toBeLessThan(document.precision === "fp32" ? 1e-4 : 0.3);
      first += tokens.length;
    }
    await close();
  });

  it("gives the same bits when it is entered anywhere with recorded rows", async () => {
    const { sessions, chain, sequences, prefillChunk, document, close } = await open(path);
    const to = document.chain.length;
    const rows = LENGTHS.reduce((sum, length) => sum + length, 0);
    const recorded: { values: Float32Array; width: number }[] = [];
    for await (const { firstRow, blocks } of runStretch(sessions, chain, { from: 0, to, sequences, prefillChunk })) {
      blocks.forEach(({ values, width }, at) => {
        recorded[at] ??= { values: new Float32Array(rows * width), width };
        recorded[at].values.set(values, firstRow * width);
      });
    }
    // As it is when more is asked for than fits into memory: everything is closed and loaded again.
    const crowded = new PartSessions(split.repository, 1, 0);
    for (const from of [1, 2, to - 1]) {
      expect(canBeEntered(chain, from)).toBe(true);
      const run = { from, to, sequences, prefillChunk, recorded: recorded[from - 1]!, lastOnly: true };
      for await (const { firstRow, rowCount, blocks } of runStretch(crowded, chain, run)) {
        const { values, width } = recorded.at(-1)!;
        expect(sameBits(blocks[0]!.values, values.subarray(firstRow * width, (firstRow + rowCount) * width))).toBe(
          true,
        );
      }
    }
    await close();
  });

  it("answers many questions at once as the engine answers one", async () => {
    const { sessions, chain, forward, sequences, prefillChunk, close } = await open(path);
    const questions = sequences.map((tokens, at) => ({ tokens, limit: 3 + at }));
    const answers = await answerGreedily(sessions, chain, { questions, prefillChunk });
    const ends = new Set(chain.chain.document.endTokens);
    for (const [at, { tokens, limit }] of questions.entries()) {
      const expected = await forward.greedy(tokens, limit);
      const end = expected.findIndex((token) => ends.has(token));
      expect(answers[at]).toEqual(end === -1 ? expected : expected.slice(0, end + 1));
    }
    await close();
  });
});

/** Not `toEqual`: it would print thousands of floats. */
function sameBits(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}
