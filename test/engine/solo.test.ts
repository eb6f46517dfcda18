import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { likeliest } from "../../src/engine/execute/sampler.ts";
import { SoloSessions } from "../../src/engine/execute/solo-sessions.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import type { BlockChain } from "../../src/chain/chain.ts";
import { fixtureModels, splitFixtures, type SplitFixtures } from "../blocks/split-fixtures.ts";

const PROMPT = Array.from({ length: 21 }, (_, at) => (at * 31 + 5) % 97);
const STEPS = 8;

let split: SplitFixtures;
beforeAll(async () => {
  split = await splitFixtures(fixtureModels());
}, 240_000);
afterAll(async () => await split.remove());

describe("a model that decodes alone in a session of its own", () => {
  test.each(fixtureModels())("%s gives the same bits as part by part", { timeout: 60_000 }, async (name) => {
    const { document } = split.models.get(name)!;
    if (document.opaque) return;
    const chain = (await resolveChain(split.repository, name)) as BlockChain;
    const together = await decode(name, "off");
    const alone = await decode(name, "auto");
    const masked = chain.cores.some(({ alibiSlopes, sinks }) => alibiSlopes || sinks);
    expect(alone.model).toBe(masked ? null : name);
    expect(together.model).toBeNull();
    expect(alone.tokens).toEqual(together.tokens);
    const wrong = together.logits.findIndex((row, step) => !sameBits(row, alone.logits[step]!));
    expect(wrong, "the first step whose logits differ").toBe(-1);
  });

  test("goes back into a batch and out of it with the bits it would have had", async () => {
    const [name] = fixtureModels() as [string];
    const mixed = await decode(name, "auto", (step) => step % 3 === 1);
    const together = await decode(name, "off");
    expect(mixed.logits.findIndex((row, step) => !sameBits(row, together.logits[step]!))).toBe(-1);
  });
});

describe("which chain gets one", () => {
  const open = async (): Promise<{ sessions: SoloSessions; chains: BlockChain[] }> => {
    const names = ["desk/optimum/base", "desk/optimum/hr"];
    const chains = (await Promise.all(names.map((name) => resolveChain(split.repository, name)))) as BlockChain[];
    const rotationsOf = ({ steps }: BlockChain) =>
      steps.flatMap((step) => (step.kind === "part" && step.part.rotary ? [step.part.rotary] : [])).slice(0, 1);
    return {
      sessions: new SoloSessions(split.repository, { threads: 1, rotationsOf, rowsOf: () => 1 }),
      chains,
    };
  };
  const runAlone = (sessions: SoloSessions, chain: BlockChain, tokens: number): void => {
    for (let token = 0; token < tokens; token++) sessions.take(chain);
  };

  test("the one last seen alone for long enough, in the place of another", async () => {
    const { sessions, chains } = await open();
    const [base, hr] = chains as [BlockChain, BlockChain];
    runAlone(sessions, base, 15);
    await sessions.whileIdle(1e12);
    expect(sessions.model).toBeNull();
    runAlone(sessions, base, 16);
    await sessions.whileIdle(1e12);
    expect(sessions.model).toBe("desk/optimum/base");
    runAlone(sessions, hr, 40);
    await sessions.whileIdle(1e12);
    expect(sessions.model).toBe("desk/optimum/hr");
    expect(sessions.take(base)).toBeNull();
    await sessions.close();
    expect(sessions.model).toBeNull();
  });

  test("none where memory is short", async () => {
    const { sessions, chains } = await open();
    runAlone(sessions, chains[0]!, 100);
    await sessions.whileIdle(1e6);
    expect(sessions.model).toBeNull();
  });
});

interface Decoded {
  model: string | null;
  tokens: number[];
  logits: Float32Array[];
}

/** Greedy decoding after a prompt; where `besides` says so, another sequence shares the step. */
async function decode(
  name: string,
  solo: "auto" | "off",
  besides: (step: number) => boolean = () => false,
): Promise<Decoded> {
  const { executor, models } = await loadModels(split.repository, [name], engineConfig({ threads: 2, solo }));
  const maxTokens = PROMPT.length + STEPS;
  const { key: model } = models[0]!;
  executor.open(1, { model, maxTokens });
  const prompt = PROMPT.map((token) => token % models[0]!.vocabSize);
  let [row] = await executor.execute([{ sequence: 1, tokens: prompt, start: 0, logits: "last", stepwise: false }]);
  const decoded: Decoded = { model: null, tokens: [], logits: [] };
  for (let step = 0; step < STEPS; step++) {
    const token = likeliest(row!);
    decoded.tokens.push(token);
    const item = { tokens: [token], start: PROMPT.length + step, logits: "last" as const, stepwise: true };
    const batch = [{ ...item, sequence: 1 }];
    if (besides(step)) {
      executor.open(2, { model, maxTokens });
      batch.push({ ...item, sequence: 2, start: 0 });
    }
    [row] = await executor.execute(batch);
    executor.release(2);
    decoded.logits.push(row!.slice());
  }
  if (executor.extras?.some(({ isLoaded }) => isLoaded)) decoded.model = name;
  await executor.close();
  return decoded;
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, at) => Object.is(value, b[at]));
}
