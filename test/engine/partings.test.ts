import { afterAll, beforeAll, expect, it } from "vitest";
import type { BlockChain } from "../../src/chain/chain.ts";
import { planChains } from "../../src/chain/plan.ts";
import { refineChains } from "../../src/chain/refine-chains.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { type Stretch, stretchesOf } from "../../src/chain/stretches.ts";
import { ChainExecutor } from "../../src/engine/execute/chain-executor.ts";
import type { BatchItem } from "../../src/engine/execute/executor.ts";
import { expectSameBits } from "./same-bits.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { TINY, type TinyModel } from "./tiny-model.ts";

const LAYERS = [10, 11, 12];
const MODELS: TinyModel[] = [
  { name: "base", layers: LAYERS },
  { name: "tuned-end", layers: [10, 11, 22] },
  { name: "down", layers: LAYERS, changed: { seed: 1, weights: ["main/down"] } },
  { name: "up", layers: LAYERS, changed: { seed: 2, weights: ["main/up"] } },
  { name: "queries", layers: LAYERS, changed: { seed: 4, weights: ["in/q0", "in/v"] } },
  { name: "out", layers: LAYERS, changed: { seed: 6, weights: ["out/projected"] } },
  { name: "windowed", layers: LAYERS, shape: { core: { window: 5 } } },
];
const PROMPT = Array.from({ length: 16 }, (_, at) => (at * 37 + 11) % TINY.vocab);

let source: TemporaryRepository;
beforeAll(async () => (source = await temporaryRepository(MODELS)));
afterAll(async () => source.remove());

async function chainsOfAll(): Promise<BlockChain[]> {
  const chains = await Promise.all(MODELS.map(async ({ name }) => resolveChain(source.repository, name)));
  return chains.filter((chain): chain is BlockChain => chain.kind === "blocks");
}

it.each(["whole", "cut finer"])(
  "what begins at a parting has the bits of what came all the way, parts %s",
  async (parts) => {
    const whole = await chainsOfAll();
    const chains = parts === "whole" ? whole : (await refineChains(whole, source.repository, 0)).chains;
    const plan = planChains(chains);
    const stretches = stretchesOf(plan);
    const executor = await ChainExecutor.load(plan, source.repository, { threads: 1 });

    const kept = new Map<string, { rows: Float32Array; state: Float32Array }>();
    const began = new Set<string>();
    const open = (sequence: number, chain: number): void =>
      executor.open(sequence, { model: chains[chain]!.key, maxTokens: 32 });
    const item = { tokens: PROMPT, start: 0, logits: "all", stepwise: false } as const;
    const items = chains.map((_, chain): BatchItem => {
      open(chain, chain);
      const partings = stretches[chain]!.flatMap(({ parting }) => parting ?? []);
      const keepRows = (step: number, rows: Float32Array): void => {
        const { key } = stretches[chain]!.find(({ parting }) => parting?.step === step)!;
        kept.set(key, { rows, state: new Float32Array(0) });
      };
      return { ...item, sequence: chain, partings, keepRows };
    });
    const cold = (await executor.execute(items)).map((logits) => logits.slice());
    for (const [chain, own] of stretches.entries()) {
      for (const { key, layers } of own.filter(({ parting }) => parting !== null))
        kept.get(key)!.state = executor.readState(chain, { from: 0, to: PROMPT.length, layers });
    }

    // All at once, so that rows that were not put would be another's.
    const beginning = chains.map((chain, at): BatchItem => {
      const sequence = 100 + at;
      open(sequence, at);
      const own = stretches[at]!.filter((one): one is Stretch & { parting: object } => one.parting !== null);
      for (const { key, layers } of own)
        executor.writeState(sequence, { from: 0, to: PROMPT.length, layers }, kept.get(key)!.state);
      const last = own.at(-1);
      if (!last) return { ...item, sequence };
      began.add(chain.name);
      return { ...item, sequence, begin: { ...last.parting, rows: kept.get(last.key)!.rows } };
    });
    const warm = await executor.execute(beginning);
    expectSameBits(
      new Map(warm.map((logits, at) => [at, [logits]])),
      new Map(cold.map((logits, at) => [at, [logits]])),
    );
    expect([...began].toSorted()).toEqual(["base", "down", "out", "tuned-end", "up"]);
    await executor.close();
  },
);
