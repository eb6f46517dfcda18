/**
 * Time to the first token of a prompt that was asked before: of the same model, of one that differs in its last layers
 * only, and of nobody.
 *
 *   npm run bench:prefix -- [--repeats 3] [--tokens 512] [--threads n] [--folder <where to write>] [--json]
 *
 * Two models of SmolLM2-135M shapes, weights never trained, that share 27 of 30 layers. All three ways take turns on
 * the same loaded models, each prompt is new, and all must give the same tokens.
 */
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { engineConfig } from "../src/engine/engine-config.ts";
import { Engine } from "../src/engine/engine.ts";
import { loadModels, type LoadedModels } from "../src/engine/load-models.ts";
import { pieceBytesPerToken } from "../src/engine/kv/stretch-state.ts";
import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { makeModels } from "./make-models.ts";
import { machine, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { inWorkFolder } from "./work-folder.ts";

const { values } = parseArgs({
  options: {
    repeats: { type: "string", default: "3" },
    tokens: { type: "string", default: "512" },
    threads: { type: "string", default: String(availableParallelism()) },
    folder: { type: "string", default: tmpdir() },
    json: { type: "boolean", default: false },
  },
});
const TOKENS = Number(values.tokens);
const THREADS = Number(values.threads);

interface Result {
  sharedLayers: number;
  layers: number;
  promptTokens: number;
  /** Milliseconds to the first token. */
  cold: Spread;
  afterOther: Spread;
  afterSame: Spread;
  /** cold ÷ each, pair by pair. */
  otherRatio: Spread;
  sameRatio: Spread;
  /** Bytes kept per token: keys and values, and the rows where the models part. */
  stateBytesPerToken: number;
  rowBytesPerToken: number;
  sameTokens: boolean;
}

const result = await inWorkFolder(values.folder, measure);
if (values.json) console.log(JSON.stringify({ machine: machine(), threads: THREADS, ...result }, null, 2));
else print(result);

async function measure(folder: string): Promise<Result> {
  const made = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: ["base", "last-layers"] });
  const store = await openRepository(join(folder, "blocks"), { create: true });
  for (const { folder: source } of made) await addModel(store, source);
  const names = made.map(({ name }) => name);
  const loaded = await loadModels(store, names, engineConfig({ threads: THREADS }));
  const [asked, other] = names as [string, string];
  const times: { cold: number; afterOther: number; afterSame: number }[] = [];
  let sameTokens = true;
  for (let repeat = -1; repeat < Number(values.repeats); repeat++) {
    const prompt = Array.from({ length: TOKENS }, (_, at) => (repeat * 7919 + at * at * 104_729 + 1717) % 49_152);
    const warm = begin(loaded, "on");
    const cold = await ask(begin(loaded, "off"), { model: asked, prompt });
    await ask(warm, { model: other, prompt });
    const afterOther = await ask(warm, { model: asked, prompt });
    const afterSame = await ask(warm, { model: asked, prompt });
    sameTokens &&= cold.token === afterOther.token && cold.token === afterSame.token;
    if (repeat < 0) continue;
    const [a, b, c] = [cold, afterOther, afterSame].map(({ milliseconds }) => milliseconds) as [number, number, number];
    times.push({ cold: a, afterOther: b, afterSame: c });
  }
  await loaded.executor.close();
  const { stretches } = loaded.models[0]!;
  const stateBytesPerToken = stretches.reduce((sum, { bytesPerToken }) => sum + bytesPerToken, 0);
  return {
    sharedLayers: stretches[0]!.layers.end,
    layers: stretches.at(-1)!.layers.end,
    promptTokens: TOKENS,
    cold: spreadOf(times.map(({ cold }) => cold)),
    afterOther: spreadOf(times.map(({ afterOther }) => afterOther)),
    afterSame: spreadOf(times.map(({ afterSame }) => afterSame)),
    otherRatio: spreadOf(times.map(({ cold, afterOther }) => cold / afterOther)),
    sameRatio: spreadOf(times.map(({ cold, afterSame }) => cold / afterSame)),
    stateBytesPerToken,
    rowBytesPerToken: stretches.reduce((sum, one) => sum + pieceBytesPerToken(one), 0) - stateBytesPerToken,
    sameTokens,
  };
}

interface Asking {
  engine: Engine;
  answers: Map<number, number>;
  nextId: number;
}

function begin({ executor, models }: LoadedModels, prefixCache: "on" | "off"): Asking {
  const answers = new Map<number, number>();
  const engine = new Engine({
    executor,
    models,
    config: engineConfig({ threads: THREADS, prefixCache, speculate: "off" }),
    report: (id, event) => void (event.type === "token-delta" && answers.set(id, event.token)),
  });
  return { engine, answers, nextId: 1 };
}

async function ask(
  asking: Asking,
  { model, prompt }: { model: string; prompt: number[] },
): Promise<{ milliseconds: number; token: number }> {
  const { engine, answers } = asking;
  const id = asking.nextId++;
  const started = performance.now();
  engine.submit(id, { model, tokens: prompt, maxTokens: 1, sampling: { temperature: 0 }, ignoreEnd: true });
  while (!engine.isIdle) await engine.step();
  return { milliseconds: performance.now() - started, token: answers.get(id)! };
}

function print(one: Result): void {
  const { cpu, threads, node } = machine();
  console.log(`${cpu}, ${threads} threads, Node ${node}; a prompt of ${one.promptTokens} tokens, medians (least–most)`);
  const table = new Table({
    head: ["asked before", "ms to the first token", "nobody ÷ it"],
    style: { head: [], border: [] },
  });
  table.push(
    ["by nobody", showSpread(one.cold, 0), ""],
    [
      `of a model with ${one.sharedLayers} of ${one.layers} layers the same`,
      showSpread(one.afterOther, 0),
      showSpread(one.otherRatio, 2),
    ],
    ["of the same model", showSpread(one.afterSame, 0), showSpread(one.sameRatio, 2)],
  );
  console.log(table.toString());
  const share = ((100 * one.rowBytesPerToken) / one.stateBytesPerToken).toFixed(1);
  console.log(
    `kept per token: ${one.stateBytesPerToken} bytes of keys and values, ${one.rowBytesPerToken} of rows where the models part (${share} %)`,
  );
  console.log(one.sameTokens ? "all gave the same tokens" : "THE TOKENS DIFFER");
}
