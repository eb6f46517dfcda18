import { afterEach, expect, test } from "vitest";
import type { CoreSpec } from "../../../src/blocks/block.ts";
import type { WalkingSequence } from "../../../src/engine/execute/batch-walker.ts";
import type { BatchItem } from "../../../src/engine/execute/executor.ts";
import { Lane } from "../../../src/engine/execute/lanes/lane.ts";
import type { LanePlan } from "../../../src/engine/execute/lanes/lane-messages.ts";
import { SequenceCache } from "../../../src/engine/kv/sequence-cache.ts";

const CORE = { heads: 2, kvHeads: 1, headSize: 8, valueHeadSize: 8, scale: 1, window: null } as unknown as CoreSpec;
const ITEM: BatchItem = { sequence: 7, tokens: [1], start: 2, logits: "none", stepwise: false };
const NO_STAGES: LanePlan = { stages: [], rank: [0], tables: new Map(), cores: [[CORE]] };

let lane: Lane;
afterEach(async () => await lane.end());

test("a lane gives back what it was lent, and does not copy it", async () => {
  lane = new Lane({ threads: 1 });
  lane.adopt(NO_STAGES);
  const cache = filledCache();
  const logits = await lane.run([ITEM], { keys: [], sequenceOf: () => walking(cache) });
  expect(logits).toEqual([new Float32Array(0)]);
  expect([...cache.read({ from: 0, to: 1 })]).toEqual(Array.from({ length: 16 }, (_, at) => at));
  cache.reserve(40);
  expect(cache.byteLength).toBe(48 * 16 * 4);
});

test("what is lent counts as before while it is away", async () => {
  lane = new Lane({ threads: 1 });
  lane.adopt(NO_STAGES);
  const cache = filledCache();
  const running = lane.run([ITEM], { keys: [], sequenceOf: () => walking(cache) });
  expect(cache.byteLength).toBe(16 * 16 * 4);
  expect(() => cache.read({ from: 0, to: 1 })).toThrow(/detached|bounds|length/i);
  await running;
});

test("a segment that cannot be opened is an error of that call alone", async () => {
  lane = new Lane({ threads: 1 });
  const segment = { key: 1, path: "/nowhere/model.onnx", lifted: [], sharing: 1 } as const;
  await expect(lane.open(segment)).rejects.toMatchObject({ code: "engine_failed" });
  expect(lane.isLost).toBe(false);
});

test("a run that fails gives the caches back", async () => {
  lane = new Lane({ threads: 1 });
  lane.adopt(NO_STAGES);
  const cache = filledCache();
  const unknown = { ...ITEM, tokens: null as unknown as number[] };
  await expect(lane.run([unknown], { keys: [], sequenceOf: () => walking(cache) })).rejects.toMatchObject({
    code: "engine_failed",
  });
  expect(cache.read({ from: 0, to: 1 })[3]).toBe(3);
  expect(lane.isLost).toBe(false);
});

test("a lane whose thread ends says so, and what it was lent is empty", async () => {
  lane = new Lane({ threads: 1 });
  lane.adopt({ ...NO_STAGES, cores: null as unknown as LanePlan["cores"] });
  const cache = filledCache();
  const run = async (): Promise<unknown> => lane.run([ITEM], { keys: [], sequenceOf: () => walking(cache) });
  await expect(run()).rejects.toMatchObject({ code: "engine_failed", message: expect.stringContaining("lane") });
  expect(lane.isLost).toBe(true);
  expect(cache.byteLength).toBe(0);
  cache.reserve(3);
  cache.release();
  await expect(run()).rejects.toMatchObject({ code: "engine_failed" });
});

function filledCache(): SequenceCache {
  const cache = new SequenceCache([CORE], 64);
  cache.reserve(3);
  cache.write(
    { from: 0, to: 1 },
    Float32Array.from({ length: 16 }, (_, at) => at),
  );
  return cache;
}

function walking(cache: SequenceCache): WalkingSequence {
  return { chain: 0, cache };
}
