import { dirname } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { planChains } from "../../src/chain/plan.ts";
import { refineChains } from "../../src/chain/refine-chains.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { ChainExecutor } from "../../src/engine/execute/chain-executor.ts";
import { weightPlace } from "../../src/engine/execute/weight-place.ts";
import { runtimeOptions } from "../../src/engine/execute/runtime-options.ts";
import { soloGraph } from "../../src/engine/execute/solo-graph.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { TINY, type TinyModel } from "./tiny-model.ts";

const LAYERS = [10, 11];
const MODELS: TinyModel[] = [
  { name: "base", layers: LAYERS },
  { name: "down", layers: LAYERS, changed: { seed: 1, weights: ["main/down"] } },
  { name: "up", layers: LAYERS, changed: { seed: 2, weights: ["main/up"] } },
  { name: "norms", layers: LAYERS, changed: { seed: 3, weights: ["main/normal", "in/normal"] } },
  { name: "queries", layers: LAYERS, changed: { seed: 4, weights: ["in/q0", "in/v"] } },
  { name: "keys", layers: LAYERS, changed: { seed: 5, weights: ["in/k0"] } },
  { name: "other", layers: [20, 21], embeddingSeed: 2 },
  {
    name: "adapted",
    layers: LAYERS,
    embeddingSeed: 3,
    changed: { seed: 6, weights: ["out/projected"] },
    adapter: { seed: 7, rank: 2, weights: ["out/projected"] },
  },
  {
    name: "adapted-norms",
    layers: LAYERS,
    changed: { seed: 8, weights: ["main/normal", "in/normal"] },
    adapter: { seed: 9, rank: 3, weights: ["in/q0", "in/v", "main/down"] },
  },
];
/** The norms of all heads are equal: what that would save. */
const NORM_BYTES = 4 * TINY.hidden;
const PROMPT = Array.from({ length: 9 }, (_, at) => (at * 37 + 11) % TINY.vocab);

let source: TemporaryRepository;
beforeAll(async () => (source = await temporaryRepository(MODELS)));
afterAll(async () => source.remove());

async function chainsOf(...names: string[]): Promise<BlockChain[]> {
  return (await Promise.all(names.map((name) => resolveChain(source.repository, name)))) as BlockChain[];
}

describe("refineChains", () => {
  it("cuts where one projection differs, and nowhere else", async () => {
    const { refinements } = await refineChains(await chainsOf("base", "down"), source.repository, 0);
    const [front, last] = [["normal.weight", "gate.weight", "up.weight"], ["down.weight"]];
    expect(refinements).toMatchObject(
      [0, 1].map((layer) => ({ place: `mlp of layer ${layer}`, models: ["base", "down"], runs: [front, last] })),
    );
    const { hidden, mlp } = TINY;
    expect(refinements[0]!.saved_bytes).toBe(4 * (hidden + 2 * hidden * mlp));
    expect(refinements[0]!.more_sessions).toBe(1);
  });

  it("leaves parts whole that save less than a session costs", async () => {
    const chains = await chainsOf("base", "down");
    const { hidden, mlp } = TINY;
    const saving = 4 * (hidden + 2 * hidden * mlp);
    expect((await refineChains(chains, source.repository, saving - 1)).refinements).toHaveLength(2);
    expect(await refineChains(chains, source.repository, saving)).toEqual({ chains, refinements: [] });
  });

  it("leaves models alone that have nothing in common, and one alone", async () => {
    const chains = await chainsOf("base", "other");
    expect(await refineChains(chains, source.repository, NORM_BYTES)).toEqual({ chains, refinements: [] });
    expect((await refineChains(await chainsOf("down"), source.repository, 0)).refinements).toEqual([]);
  });

  it("cuts parts that an adapter adds to, and its factors go with their weights", async () => {
    const { chains, refinements } = await refineChains(
      await chainsOf("base", "adapted-norms"),
      source.repository,
      NORM_BYTES,
    );
    const places = LAYERS.flatMap((_, layer) => [`attention of layer ${layer} (in)`, `mlp of layer ${layer}`]);
    expect(new Set(refinements.map(({ place }) => place))).toEqual(new Set([...places, "head"]));
    const parts = chains.map(({ steps }) => steps.flatMap((step) => (step.kind === "part" ? [step.part] : [])));
    const adapted = parts[1]!.filter(({ factors }) => factors.length > 0);
    expect(adapted.map(({ factors }) => factors.map(({ weight }) => weight))).toEqual(
      LAYERS.flatMap(() => [["q0.weight", "v.weight"], ["down.weight"]]),
    );
    for (const { graph } of adapted) expect(parts[0]!.map((part) => part.graph)).toContain(graph);
  });

  it("loads what models have in common once", async () => {
    const names = MODELS.map(({ name }) => name);
    const chains = await chainsOf(...names);
    const loaded = (planned: BlockChain[]) => planChains(planned).segments.reduce((sum, { bytes }) => sum + bytes, 0);
    const { chains: refined, refinements } = await refineChains(chains, source.repository, 0);
    const saved = refinements.reduce((sum, { saved_bytes }) => sum + saved_bytes, 0);
    expect(saved).toBeGreaterThan(50_000);
    // Graphs are counted, too, and those of runs together are a little larger.
    expect(loaded(chains) - loaded(refined)).toBeGreaterThan(saved * 0.8);
  });

  it("is one graph all the same where a model decodes alone", async () => {
    const whole = await chainsOf("base", "down", "queries");
    const { chains, refinements } = await refineChains(whole, source.repository, 0);
    expect(refinements).toHaveLength(4);
    for (const [at, chain] of chains.entries()) expect(await decodeAlone(chain)).toEqual(await decodeAlone(whole[at]!));
  });

  it("computes bit for bit what every model computes alone", async () => {
    const names = MODELS.map(({ name }) => name);
    const { chains } = await refineChains(await chainsOf(...names), source.repository, 0);
    const together = await answer(chains);
    for (const [at, chain] of (await chainsOf(...names)).entries()) {
      const [alone] = await answer([chain]);
      const wrong = alone!.findIndex((logit, place) => !Object.is(logit, together[at]![place]));
      expect({ name: chain.name, wrong, logits: together[at]!.length }).toEqual({
        name: chain.name,
        wrong: -1,
        logits: (PROMPT.length + 1) * TINY.vocab,
      });
    }
  });
});

/** One step of a chain as one graph, after three tokens. */
async function decodeAlone(chain: BlockChain): Promise<Float32Array> {
  const rotations = chain.steps.flatMap((step) => (step.kind === "part" && step.part.rotary ? [step.part.rotary] : []));
  const model = await soloGraph(chain, rotations.slice(0, 1), { source: source.repository, rows: 1 });
  const folder = dirname(source.repository.blobs.path(chain.document.chain[0]!.digest));
  const session = await InferenceSession.create(writeModel(model, weightPlace), runtimeOptions(1, folder));
  const past = 3;
  const feeds = model.graph.inputs.map(({ name, dtype, dims }): [string, Tensor] => {
    if (dtype === "int64")
      return [
        name,
        new Tensor(
          "int64",
          [BigInt(name === "ids" ? 7 : past + 1)],
          dims!.map(() => 1),
        ),
      ];
    const shape = dims!.map((dim) => (typeof dim === "number" ? dim : String(dim).startsWith("past") ? past : 1));
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) =>
      Math.sin(at + name.length),
    );
    return [name, new Tensor("float32", values, shape)];
  });
  const outputs = await session.run(Object.fromEntries(feeds));
  await session.release();
  return outputs["logits"]!.data as Float32Array;
}

/** Every model's logits of the prompt and of one more token, all models in the same two batches. */
async function answer(chains: BlockChain[]): Promise<number[][]> {
  const executor = await ChainExecutor.load(planChains(chains), source.repository, { threads: 1 });
  for (const [sequence, { key }] of chains.entries()) executor.open(sequence, { model: key, maxTokens: 32 });
  const item = { logits: "all" as const, stepwise: false };
  const prompts = await executor.execute(
    chains.map((_, sequence) => ({ ...item, sequence, tokens: PROMPT, start: 0 })),
  );
  const next = await executor.execute(
    chains.map((_, sequence) => ({ ...item, sequence, tokens: [5], start: PROMPT.length })),
  );
  await executor.close();
  return chains.map((_, at) => [...prompts[at]!, ...next[at]!]);
}
