/**
 * Tokens per second of one sequence with drafts from its own tokens against none, on text that repeats and on text that
 * does not.
 *
 *   npm run bench:speculate -- [--repeats 3] [--tokens 96] [--threads n] [--folder <where to write>] [--json]
 *
 * SmolLM2-135M shapes, weights never trained: greedy answers fall into loops, sampled ones never repeat, and ones drawn from
 * two or four tokens look as if they did. Both ways run in turns, step by step, on the same loaded model.
 */
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { engineConfig } from "../src/engine/engine-config.ts";
import { Engine, type EngineParts } from "../src/engine/engine.ts";
import { loadModels, type LoadedModels } from "../src/engine/load-models.ts";
import type { Sampling } from "../src/engine/request.ts";
import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { makeModels } from "./make-models.ts";
import { machine, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { inWorkFolder } from "./work-folder.ts";

const { values } = parseArgs({
  options: {
    repeats: { type: "string", default: "3" },
    tokens: { type: "string", default: "96" },
    threads: { type: "string", default: String(availableParallelism()) },
    folder: { type: "string", default: tmpdir() },
    json: { type: "boolean", default: false },
  },
});
const TOKENS = Number(values.tokens);
const THREADS = Number(values.threads);
const PROMPT = 64;

interface Run {
  tokensPerSecond: number;
  tokens: number[];
  drafted: number;
  accepted: number;
}

interface Comparison {
  text: string;
  on: Spread;
  off: Spread;
  /** on / off, pair by pair. */
  ratio: Spread;
  drafted: number;
  accepted: number;
  sameTokens: boolean;
}

const comparisons = await inWorkFolder(values.folder, measure);
if (values.json)
  console.log(JSON.stringify({ machine: machine(), tokens: TOKENS, threads: THREADS, comparisons }, null, 2));
else print(comparisons);

async function measure(folder: string): Promise<Comparison[]> {
  const [model] = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: ["base"] });
  const store = await openRepository(join(folder, "blocks"), { create: true });
  await addModel(store, model!.folder);
  const loaded = await loadModels(store, [model!.name], engineConfig({ threads: THREADS }));
  try {
    const repeats = Number(values.repeats);
    return [
      await compare(loaded, repeats, { text: "repeats: greedy", prompt: repetitive, sampling: { temperature: 0 } }),
      await compare(loaded, repeats, { text: "random: sampled", prompt: random, sampling: { temperature: 1 } }),
      await compare(loaded, repeats, {
        text: "misleads: one of two",
        prompt: repetitive,
        sampling: { temperature: 5, topK: 2 },
      }),
      await compare(loaded, repeats, {
        text: "misleads: one of four",
        prompt: repetitive,
        sampling: { temperature: 5, topK: 4 },
      }),
    ];
  } finally {
    await loaded.executor.close();
  }
}

interface Text {
  text: string;
  prompt: (seed: number) => number[];
  sampling: Partial<Sampling>;
}

async function compare(loaded: LoadedModels, repeats: number, text: Text): Promise<Comparison> {
  await sideBySide(loaded, { ...text, repeat: 0, tokens: 8 });
  const pairs: { on: Run; off: Run }[] = [];
  for (let repeat = 0; repeat < repeats; repeat++)
    pairs.push(await sideBySide(loaded, { ...text, repeat, tokens: TOKENS }));
  return {
    text: text.text,
    on: spreadOf(pairs.map(({ on }) => on.tokensPerSecond)),
    off: spreadOf(pairs.map(({ off }) => off.tokensPerSecond)),
    ratio: spreadOf(pairs.map(({ on, off }) => on.tokensPerSecond / off.tokensPerSecond)),
    drafted: pairs.reduce((sum, { on }) => sum + on.drafted, 0),
    accepted: pairs.reduce((sum, { on }) => sum + on.accepted, 0),
    sameTokens: pairs.every(({ on, off }) => on.tokens.join() === off.tokens.join()),
  };
}

/** Two engines over one executor; the one with fewer tokens steps next, so that a machine that slows down slows both. */
async function sideBySide(
  loaded: LoadedModels,
  text: Text & { repeat: number; tokens: number },
): Promise<{ on: Run; off: Run }> {
  const off = begin(loaded, { ...text, speculate: "off", id: 1 });
  const on = begin(loaded, { ...text, speculate: "auto", id: 2 });
  while (!off.engine.isIdle || !on.engine.isIdle) {
    const next = on.engine.isIdle || (!off.engine.isIdle && off.tokens.length <= on.tokens.length) ? off : on;
    const decodes = next.tokens.length > 0;
    const started = performance.now();
    await next.engine.step();
    if (decodes) next.milliseconds += performance.now() - started;
  }
  return { on: resultOf(on), off: resultOf(off) };
}

interface Side {
  engine: Engine;
  tokens: number[];
  /** Of all steps after the first token. */
  milliseconds: number;
}

function begin(
  { executor, models }: LoadedModels,
  {
    prompt,
    sampling,
    speculate,
    id,
    repeat,
    tokens: maxTokens,
  }: Text & { speculate: "auto" | "off"; id: number; repeat: number; tokens: number },
): Side {
  const tokens: number[] = [];
  const report: EngineParts["report"] = (_, event) => void (event.type === "token-delta" && tokens.push(event.token));
  const engine = new Engine({ executor, models, config: engineConfig({ threads: THREADS, speculate }), report });
  const model = models[0]!.name;
  engine.submit(id, {
    model,
    tokens: prompt(repeat),
    maxTokens,
    sampling: { ...sampling, seed: repeat },
    ignoreEnd: true,
  });
  return { engine, tokens, milliseconds: 0 };
}

function resultOf({ engine, tokens, milliseconds }: Side): Run {
  const { draftedTokens: drafted, acceptedTokens: accepted } = engine.stats();
  return { tokensPerSecond: (1000 * (tokens.length - 1)) / milliseconds, tokens, drafted, accepted };
}

function repetitive(seed: number): number[] {
  return Array.from({ length: PROMPT }, (_, at) => 1000 + seed * 100 + (at % 8));
}

function random(seed: number): number[] {
  return Array.from({ length: PROMPT }, (_, at) => (seed * 7919 + at * at * 104_729 + 17) % SMOLLM2_135M.vocabulary);
}

function print(list: Comparison[]): void {
  const { cpu, threads, node } = machine();
  console.log(`${cpu}, ${threads} threads, Node ${node}; one sequence, ${TOKENS} tokens, medians (least–most)`);
  const table = new Table({
    head: ["text", "drafts, tokens/s", "none, tokens/s", "ratio", "drafted", "accepted", "same tokens"],
    style: { head: [], border: [] },
  });
  for (const { text, on, off, ratio, drafted, accepted, sameTokens } of list) {
    table.push([
      text,
      showSpread(on, 1),
      showSpread(off, 1),
      showSpread(ratio, 2),
      drafted,
      accepted,
      sameTokens ? "yes" : "no",
    ]);
  }
  console.log(table.toString());
}
