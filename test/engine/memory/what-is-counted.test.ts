import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { BlockChain } from "../../../src/chain/chain.ts";
import { planChains, type Plan } from "../../../src/chain/plan.ts";
import { refineChains } from "../../../src/chain/refine-chains.ts";
import { resolveChain } from "../../../src/chain/resolve-chain.ts";
import { engineConfig } from "../../../src/engine/engine-config.ts";
import { SegmentSession } from "../../../src/engine/execute/segment-session.ts";
import { openModels } from "../../../src/engine/load-models.ts";
import { divideMemory } from "../../../src/engine/memory/divide-memory.ts";
import { ownBytes } from "../../../src/engine/memory/own-bytes.ts";
import { segmentBytes } from "../../../src/engine/memory/segment-bytes.ts";
import { sessionBytes } from "../../../src/engine/memory/session-bytes.ts";
import { Workspace } from "../../../src/engine/memory/workspace.ts";
import { applyTiers } from "../../../src/store/apply-tiers.ts";
import { collectGarbage } from "../../../src/store/collect-garbage.ts";
import { splitFixtures, type SplitFixtures } from "../../blocks/split-fixtures.ts";

const ALIKE = ["desk/optimum/base", "desk/optimum/hr", "desk/optimum/research"];
/** Tables by ids alone, in half precision, with positions, with positions that begin at 2, and in integers. */
const TABLES = [
  "desk/optimum/base",
  "exports/contrib/gpt2-fp16",
  "exports/optimum/gpt2",
  "exports/optimum/opt",
  "exports/genai/llama_tied-cpu-int4-shared",
];

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures([...new Set([...ALIKE, ...TABLES])]);
}, 120_000);
afterAll(async () => await split.remove());

async function chainOf(path: string): Promise<BlockChain> {
  return (await resolveChain(split.repository, path)) as BlockChain;
}

async function divided(lanes = 1): Promise<{ planned: number; taken: number; workspace: number; plan: Plan }> {
  const config = engineConfig({ memoryBytes: 1e9, threads: 2, lanes });
  const chains = await Promise.all(ALIKE.map(chainOf));
  const plan = planChains((await refineChains(chains, split.repository)).chains);
  const { weightBytes: planned } = await divideMemory(chains, plan, { config, source: split.repository });
  const { executor } = await openModels(split.repository, ALIKE, config);
  const loadables = new Set([...executor.needs.values()].flat());
  const taken = [...loadables].reduce((sum, { bytes }) => sum + bytes, 0);
  await executor.close();
  return { planned, taken, workspace: Workspace.onHost(plan.segments, config.maxBatchTokens).bytes, plan };
}

describe("memory that plan says and the engine takes", () => {
  it("is one number, with the space to compute in once", async () => {
    const { planned, taken, workspace, plan } = await divided();
    expect(planned).toBe(taken);
    const held = await Promise.all(plan.segments.map((segment) => segmentBytes(segment, split.repository)));
    expect(taken).toBe(held.reduce((sum, bytes) => sum + bytes, 0) + workspace);
    expect(workspace).toBeGreaterThan(0);
  });

  it("is one number with lanes, too: they take no weights of their own", async () => {
    const { planned, taken, plan } = await divided(2);
    expect(planned).toBe(taken);
    expect(taken - (await divided()).taken).toBe(plan.segments.length * 2 * 2 ** 20);
  });

  it("says of each model what the others' memory grows by when it comes", async () => {
    const chains = await Promise.all(ALIKE.map(chainOf));
    const refined = (await refineChains(chains, split.repository)).chains;
    const own = await ownBytes(planChains(refined), async (segment) => segmentBytes(segment, split.repository));
    for (const [index, bytes] of own.entries()) {
      const all = await heldBytes(planChains(refined));
      const others = await heldBytes(planChains(refined.filter((_, at) => at !== index)));
      // Where one model less parts them, segments join, and there are fewer sessions.
      expect(bytes).toBeLessThanOrEqual(all - others);
      expect(all - others - bytes).toBeLessThan(refined[index]!.steps.length * 2 ** 20);
      expect((all - others - bytes) % 2 ** 20).toBe(0);
      expect(bytes).toBeGreaterThan(0);
    }
  });

  it.each(TABLES)("leaves out what %s looks up on disk", async (path) => {
    const [embedding] = planChains([await chainOf(path)], { fuse: false }).segments;
    const outside = embedding!.parts[0]!.tensors.filter(({ dims, dtype }) => dims.length === 2 && /float/.test(dtype));
    const bytes = outside.reduce((sum, tensor) => sum + tensor.bytes, 0);
    const isInteger = path.includes("int4");
    expect(bytes > 0).toBe(true);
    expect(await segmentBytes(embedding!, split.repository)).toBe(sessionBytes(embedding!) - (isInteger ? 0 : bytes));
  });
});

describe("rows that are looked up on disk", () => {
  it.each(TABLES)("of %s are those of its graph, bit for bit", async (path) => {
    const [embedding] = planChains([await chainOf(path)], { fuse: false }).segments;
    const ids = [5, 6, 7, 0, 41, 41, 3];
    const integers = (values: number[]): Tensor => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, 7]);
    const both = { ids: integers(ids), positions: integers([0, 1, 2, 9, 4, 5, 6]) };
    const feeds = Object.fromEntries(Object.entries(both).filter(([name]) => takes(embedding!, name)));
    const stored = await InferenceSession.create(split.repository.blobs.path(embedding!.parts[0]!.graph));
    const expected = await stored.run(feeds);
    await stored.release();
    const session = await SegmentSession.open(embedding!, { source: split.repository, threads: 1, maxBatchTokens: 7 });
    await session.load();
    const given = await session.run(feeds);
    await session.unload();
    expect(Object.keys(given)).toEqual(Object.keys(expected));
    for (const [name, { data, dims }] of Object.entries(expected)) {
      expect(given[name]!.dims).toEqual(dims);
      expect(Buffer.compare(bytesOf(given[name]!.data), bytesOf(data)), name).toBe(0);
    }
  });
});

it("a table that lies as a residual is counted: it is rebuilt in memory", async () => {
  const before = await divided();
  await applyTiers(split.repository, undefined, { tiers: ["residual"], keepOriginals: false });
  await collectGarbage(split.repository, { graceMs: 0 });
  const after = await divided();
  expect(after.planned).toBe(after.taken);
  const [embedding] = planChains([await chainOf("desk/optimum/research")], { fuse: false }).segments;
  const [table] = embedding!.parts[0]!.tensors;
  const counted = await segmentBytes(embedding!, split.repository);
  expect(counted).toBe(
    sessionBytes(embedding!) - ((await split.repository.blobs.has(table!.digest)) ? table!.bytes : 0),
  );
  expect(after.planned).toBeGreaterThanOrEqual(before.planned);
});

async function heldBytes({ segments }: Plan): Promise<number> {
  const held = await Promise.all(segments.map((segment) => segmentBytes(segment, split.repository)));
  return held.reduce((sum, bytes) => sum + bytes, 0);
}

function takes({ inputs }: { inputs: { name: string }[] }, name: string): boolean {
  return inputs.some((input) => input.name === name);
}

function bytesOf(data: Tensor["data"]): Uint8Array {
  const { buffer, byteOffset, byteLength } = data as Float32Array;
  return new Uint8Array(buffer, byteOffset, byteLength);
}
