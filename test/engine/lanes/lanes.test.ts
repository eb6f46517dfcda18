import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { engineConfig } from "../../../src/engine/engine-config.ts";
import { likeliest } from "../../../src/engine/execute/sampler.ts";
import type { BatchItem, Executor, Loadable, Share } from "../../../src/engine/execute/executor.ts";
import { loadModels } from "../../../src/engine/load-models.ts";
import { EVERY_KIND, fixtureModels, splitFixtures, type SplitFixtures } from "../../blocks/split-fixtures.ts";

const DESK = fixtureModels().filter((name) => name.startsWith("desk/"));
const SEQUENCES = 4;
const PROMPT_TOKENS = 21;
const CHUNK = 16;
/** More than LaneChoice takes of both ways before it chooses. */
const STEPS = 10;

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures([...new Set([...DESK, ...EVERY_KIND])]);
}, 240_000);
afterAll(async () => await split.remove());

describe("a batch that is shared out among lanes", () => {
  test.each(EVERY_KIND)("%s gives the bits it has in one walk", { timeout: 120_000 }, async (name) => {
    const inLanes = await decode([name], 2);
    expect(inLanes.laneBatches > 0).toBe(!split.models.get(name)!.document.opaque);
    expectSameBits(inLanes.logits, (await decode([name], 1)).logits);
  });

  test("so do models that share blocks, in more lanes than two", { timeout: 120_000 }, async () => {
    const inLanes = await decode(DESK, 3);
    expect(inLanes.laneBatches).toBeGreaterThan(0);
    expectSameBits(inLanes.logits, (await decode(DESK, 1)).logits);
  });

  test("walks by what is not loaded, where it needs none of it", async () => {
    const config = engineConfig({ threads: 2, lanes: 2 });
    const { executor, models } = await loadModels(split.repository, ["desk/optimum/base", "desk/optimum/hr"], config);
    const [base, hr] = models.map(({ key }) => executor.needs.get(key)!) as [readonly Loadable[], readonly Loadable[]];
    for (const one of hr) if (!base.includes(one)) await one.unload();
    for (const id of [1, 2]) executor.open(id, { model: models[0]!.key, maxTokens: STEPS });
    for (let start = 0; start < STEPS; start++) {
      const items = [1, 2].map((sequence) => itemAt(sequence, start));
      const [first, second] = await executeInShares(executor, items);
      expect(sameBits(first!, second!)).toBe(true);
    }
    expect(executor.laneBatches).toBeGreaterThan(0);
    await executor.close();
  });

  test("leaves no packed weights behind", async () => {
    const temporary = mkdtempSync(join(tmpdir(), "lanes-test-"));
    vi.stubEnv("TMPDIR", temporary);
    const config = engineConfig({ threads: 2, lanes: 2 });
    const { executor } = await loadModels(split.repository, ["desk/optimum/base"], config);
    expect(readdirSync(temporary).filter((name) => name.startsWith("blockllm-"))).toEqual([]);
    await executor.close();
    vi.unstubAllEnvs();
    rmSync(temporary, { recursive: true });
  });
});

interface Decoded {
  /** Of each step, prompts first. */
  logits: Float32Array[][];
  laneBatches: number;
}

/** Greedy decoding of a few sequences per model, all in one batch. */
async function decode(names: string[], lanes: number): Promise<Decoded> {
  const config = engineConfig({ threads: lanes === 1 ? 2 : lanes, lanes });
  const { executor, models } = await loadModels(split.repository, names, config);
  const sequences = models.flatMap(({ key, vocabSize }, index) =>
    Array.from({ length: SEQUENCES }, (_, place) => ({ id: index * SEQUENCES + place, key, vocabSize })),
  );
  for (const { id, key } of sequences) executor.open(id, { model: key, maxTokens: PROMPT_TOKENS + STEPS });
  const logits: Float32Array[][] = [];
  const execute = async (items: BatchItem[]): Promise<Float32Array[]> => {
    const rows = await executeInShares(executor, items);
    logits.push(rows.map((row) => row.slice()));
    return rows;
  };
  // Two chunks of each prompt in one batch, the second of which attends the first.
  const prompts = sequences.flatMap(({ id, vocabSize }): BatchItem[] => {
    const tokens = Array.from({ length: PROMPT_TOKENS }, (_, at) => (at * 31 + id * 7 + 5) % vocabSize);
    return [
      { sequence: id, tokens: tokens.slice(0, CHUNK), start: 0, logits: "none", stepwise: false },
      { sequence: id, tokens: tokens.slice(CHUNK), start: CHUNK, logits: "last", stepwise: false },
    ];
  });
  const isWhole = executor.needs.get(models[0]!.key)!.length < 2;
  let rows = isWhole ? await executeInTurn(execute, prompts) : (await execute(prompts)).filter((_, at) => at % 2 === 1);
  for (let step = 0; step < STEPS; step++)
    rows = await execute(
      sequences.map(({ id }, at): BatchItem => {
        const tokens = [likeliest(rows[at]!)];
        return { sequence: id, tokens, start: PROMPT_TOKENS + step, logits: "last", stepwise: false };
      }),
    );
  const laneBatches = executor.laneBatches ?? 0;
  await executor.close();
  return { logits, laneBatches };
}

function itemAt(sequence: number, start: number): BatchItem {
  return { sequence, tokens: [5 + start], start, logits: "last", stepwise: false };
}

async function executeInShares(executor: Executor, items: BatchItem[]): Promise<Float32Array[]> {
  const out = executor.shareOut?.(items);
  if (!out) return await executor.execute(items);
  const rows = new Map<BatchItem, Float32Array>();
  const walk = async (share: Share): Promise<void> => {
    const own = await share.execute(share.items);
    share.items.forEach((item, at) => rows.set(item, own[at]!));
  };
  await Promise.all(out.shares.map(walk));
  out.done();
  return items.map((item) => rows.get(item)!);
}

/** Models that are not taken apart take one item of a sequence at a time. */
async function executeInTurn(
  execute: (items: BatchItem[]) => Promise<Float32Array[]>,
  items: BatchItem[],
): Promise<Float32Array[]> {
  await execute(items.filter((_, at) => at % 2 === 0));
  return await execute(items.filter((_, at) => at % 2 === 1));
}

function expectSameBits(found: Float32Array[][], expected: Float32Array[][]): void {
  expect(found.length).toBe(expected.length);
  for (const [step, rows] of expected.entries()) {
    const wrong = rows.findIndex((row, item) => !sameBits(row, found[step]![item]!));
    expect(wrong, `the first item of step ${step} whose logits differ`).toBe(-1);
  }
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, at) => Object.is(value, b[at]));
}
