import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LowRankFactors } from "../../src/blocks/adapter.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { stackFactors } from "../../src/engine/execute/stack-factors.ts";
import { openForward } from "../../src/engine/forward.ts";
import { planChains } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { EngineRequest } from "../../src/engine/request.ts";
import { expectSameBits } from "./same-bits.ts";
import { recordingEngine, type SampledRows } from "./serve-recorded.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import type { TinyModel } from "./tiny-model.ts";

const ALL = ["in/q0", "in/v", "out/projected", "main/down"] as const;
const base = { layers: [10, 11, 12] };
const MODELS: TinyModel[] = [
  { ...base, name: "base" },
  { ...base, name: "rank-8", adapter: { seed: 50, rank: 8, weights: [...ALL] } },
  { ...base, name: "rank-3", adapter: { seed: 60, rank: 3, weights: [...ALL] } },
  { ...base, name: "queries", adapter: { seed: 70, rank: 13, weights: ["in/q0"] } },
  { ...base, name: "mlps", adapter: { seed: 80, rank: 1, weights: ["main/down"] } },
  { ...base, name: "end-differs", layers: [10, 11, 22], adapter: { seed: 50, rank: 8, weights: [...ALL] } },
];
const NAMES = MODELS.map(({ name }) => name);
const KNOBS = { threads: 2, prefillChunk: 16, maxBatchTokens: 48 };

const REQUESTS = Array.from({ length: 18 }, (_, id): [number, EngineRequest] => [
  id,
  {
    model: NAMES[id % NAMES.length]!,
    tokens: Array.from({ length: 2 + ((id * 11) % 37) }, (__, at) => (at * 7 + id * 13) % 96),
    maxTokens: 9,
    sampling: { temperature: 0, seed: id },
    tenant: `tenant-${id % 4}`,
    ignoreEnd: true,
  },
]);

let source: TemporaryRepository;
beforeAll(async () => {
  source = await temporaryRepository(MODELS);
});
afterAll(async () => source.remove());

describe("models with different adapters over one base", () => {
  test("have the same bits alone in the engine and beside all others", async () => {
    const alone: SampledRows = new Map();
    for (const name of NAMES) {
      const engine = await recordingEngine(source.repository, [name], KNOBS);
      for (const request of REQUESTS.filter(([, { model }]) => model === name))
        alone.set(request[0], (await engine.run([request])).rows.get(request[0])!);
      await engine.close();
    }
    const together = await recordingEngine(source.repository, NAMES, KNOBS);
    expectSameBits((await together.run(REQUESTS)).rows, alone);
    expectSameBits((await together.run(REQUESTS.toReversed(), { maxBatchTokens: 500 })).rows, alone);
    await together.close();
  });

  test("load the base once", async () => {
    const load = async (names: string[]): Promise<{ bytes: number; segments: number }> => {
      const chains = await Promise.all(names.map(async (name) => resolveChain(source.repository, name)));
      const plan = planChains(chains.filter((chain) => chain.kind === "blocks"));
      return { bytes: plan.bytes, segments: plan.segments.length };
    };
    const plain = await load(["base"]);
    const adapted = await load(["base", "rank-8", "rank-3", "queries", "mlps"]);
    const factors = new Map<string, number>();
    for (const name of NAMES.slice(0, 5)) {
      for (const { adapter } of (await source.repository.readModel(name)).document.chain) {
        if (!adapter) continue;
        const { parts } = await source.repository.readAdapter(adapter.digest);
        const tensors = parts.flatMap((part) => part.factors.flatMap(({ down, up }) => [down, up]));
        for (const { digest, bytes } of tensors) factors.set(digest, bytes);
      }
    }
    expect(adapted.segments).toBe(plain.segments);
    expect(adapted.bytes).toBe(plain.bytes + [...factors.values()].reduce((sum, bytes) => sum + bytes, 0));
  });

  test("answer as the base does only without an adapter", async () => {
    const tokens = [3, 1, 4, 1, 5];
    const logits = async (name: string): Promise<Float32Array> => {
      const forward = await openForward(source.repository, name);
      const rows = await forward.logits(tokens);
      await forward.close();
      return rows;
    };
    const plain = await logits("base");
    for (const name of ["rank-8", "rank-3", "queries", "mlps"]) {
      const difference = (await logits(name)).map((logit, at) => Math.abs(logit - plain[at]!));
      expect(Math.max(...difference), name).toBeGreaterThan(0.01);
    }
  });
});

test("factors that are not finite are refused before they can reach another model's rows", async () => {
  const spoilt = await temporaryRepository([
    { ...base, name: "spoilt", adapter: { seed: 50, rank: 2, weights: ["in/v"], spread: Infinity } },
  ]);
  await expect(loadModels(spoilt.repository, ["spoilt"], engineConfig({ threads: 1 }))).rejects.toMatchObject({
    code: "model_unsupported",
    message: expect.stringContaining("not finite"),
  });
  await spoilt.remove();
});

test("no adapter's columns lie across a boundary that they would not cross alone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 }), async (ranks) => {
      const adapters = ranks.map((rank): LowRankFactors[] => [factorsOf(rank)]);
      const blobs = {
        read: async (_: string, bytes = 0) => new Uint8Array(new Float32Array(bytes / 4).fill(1).buffer),
      };
      const [stacked] = await stackFactors(adapters, blobs);
      const total = stacked!.down.dims[1]!;
      const columns = (stacked!.columns!.data as { bytes: Uint8Array }).bytes;
      const taken = new Set<number>();
      ranks.forEach((rank, adapter) => {
        const own = [...Array(total).keys()].filter((column) => columns[(adapter + 1) * total + column] === 1);
        expect(own).toHaveLength(rank);
        for (const column of own) {
          expect(taken.has(column)).toBe(false);
          taken.add(column);
        }
        for (let run = 1; run <= 512; run *= 2)
          expect(own.map((column) => Math.floor(column / run) - Math.floor(own[0]! / run))).toEqual(
            own.map((_, at) => Math.floor(at / run)),
          );
      });
      expect(columns.subarray(0, total).every((column) => column === 0)).toBe(true);
    }),
    { numRuns: 30 },
  );
});

function factorsOf(rank: number): LowRankFactors {
  const entry = (name: string, dims: number[]): LowRankFactors["down"] => ({
    name,
    digest: `sha256:${name}`,
    dtype: "float32",
    dims,
    bytes: dims[0]! * dims[1]! * 4,
  });
  return { weight: "weight", down: entry("down", [2, rank]), up: entry("up", [rank, 2]), scale: 1 };
}
