/**
 * What a runtime session costs, and what cutting parts where models differ saves: eight models of SmolLM2-135M's layer
 * shapes of which each has `down` projections of its own and everything else in common.
 *
 *   npm run bench:granularity -- [--layers 6] [--repeats 3] [--json]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { InferenceSession, Tensor } from "onnxruntime-node";

import type { BlockChain } from "../src/chain/chain.ts";
import { planChains } from "../src/chain/plan.ts";
import { refineChains, SESSION_COST } from "../src/chain/refine-chains.ts";
import { resolveChain } from "../src/chain/resolve-chain.ts";
import { ChainExecutor } from "../src/engine/execute/chain-executor.ts";
import { runtimeOptions } from "../src/engine/execute/runtime-options.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { putTinyModel, TINY } from "../test/engine/tiny-model.ts";
import { machine, ownInput, proportionalSetBytes, runAlone, showSpread, spreadOf } from "./measure.ts";

const SHAPE = { hidden: 576, heads: 9, kvHeads: 3, headSize: 64, mlp: 1536, vocab: 4096, contextLength: 256 };
const MODELS = 8;
const STEPS = 24;

interface Side {
  folder: string;
  models: string[];
  sessionCost: number | null;
}

interface Measured {
  bytes: number;
  sessions: number;
  pssMB: number;
  /** All models at once, two sequences each; and one sequence alone. */
  togetherMs: number;
  /** Processor time of all threads, which others on the machine hardly move. */
  togetherCpuMs: number;
  aloneMs: number;
}

interface SessionCost {
  callUs: number;
  sessionKB: number;
  /** Weights that a projection of one row reads in a microsecond. */
  bytesPerUs: number;
}

// Run by itself it has options, run by `runAlone` one JSON document.
const input = (process.argv[2]?.startsWith("{") ? ownInput() : {}) as Partial<Side> & { session?: true };
if (input.session) console.log(JSON.stringify(await measureSession()));
else if (input.folder !== undefined) console.log(JSON.stringify(await measureSide(input as Side)));
else await compare();

async function compare(): Promise<void> {
  const { values: settings } = parseArgs({
    options: {
      layers: { type: "string", default: "6" },
      repeats: { type: "string", default: "3" },
      json: { type: "boolean", default: false },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), "blockllm-granularity-"));
  try {
    const models = await putModels(folder, Number(settings.layers));
    const session = await runAlone<SessionCost>("granularity.ts", { session: true });
    const pairs: { whole: Measured; cut: Measured }[] = [];
    for (let repeat = 0; repeat < Number(settings.repeats); repeat++) {
      const side = async (sessionCost: number | null) =>
        await runAlone<Measured>("granularity.ts", { folder, models, sessionCost } satisfies Side);
      pairs.push({ whole: await side(null), cut: await side(SESSION_COST) });
    }
    if (settings.json) console.log(JSON.stringify({ machine: machine(), session, pairs }, null, 2));
    else print(session, pairs);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function putModels(folder: string, layerCount: number): Promise<string[]> {
  const repository = await openRepository(folder, { create: true });
  const layers = Array.from({ length: layerCount }, (_, at) => 10 + at);
  const names = Array.from({ length: MODELS }, (_, at) => `model-${at}`);
  for (const [seed, name] of names.entries()) {
    await putTinyModel(repository, {
      name,
      layers,
      shape: { ...TINY, ...SHAPE },
      changed: { seed, weights: ["main/down"] },
    });
  }
  return names;
}

async function measureSide({ folder, models, sessionCost }: Side): Promise<Measured> {
  const repository = await openRepository(folder);
  const resolved = (await Promise.all(models.map((name) => resolveChain(repository, name)))) as BlockChain[];
  const chains = sessionCost === null ? resolved : (await refineChains(resolved, repository, sessionCost)).chains;
  const plan = planChains(chains);
  const executor = await ChainExecutor.load(plan, repository, { threads: 2 });
  const sequences = chains.flatMap(({ key: model }, at) =>
    [2 * at, 2 * at + 1].map((sequence) => ({ model, sequence })),
  );
  for (const { model, sequence } of sequences) executor.open(sequence, { model, maxTokens: 128 });
  const step = async (numbers: number[], start: number) => {
    const began = performance.now();
    await executor.execute(
      numbers.map((sequence) => ({ sequence, tokens: [7], start, logits: "last" as const, stepwise: false })),
    );
    return performance.now() - began;
  };
  const all = sequences.map(({ sequence }) => sequence);
  const together: number[] = [];
  const alone: number[] = [];
  for (let at = 0; at < STEPS / 3; at++) await step(all, at);
  const before = process.cpuUsage();
  for (let at = STEPS / 3; at < STEPS; at++) together.push(await step(all, at));
  const used = process.cpuUsage(before);
  for (let at = STEPS; at < 3 * STEPS; at++) alone.push(await step([0], at));
  const measured = {
    bytes: plan.segments.reduce((sum, { bytes }) => sum + bytes, 0),
    sessions: plan.segments.length,
    pssMB: proportionalSetBytes() / 1e6,
    togetherMs: spreadOf(together).median,
    togetherCpuMs: (used.user + used.system) / 1000 / together.length,
    aloneMs: spreadOf(alone.slice(STEPS / 3)).median,
  };
  await executor.close();
  return measured;
}

/** Sessions over one part of a model that hardly computes, so that what is measured is the call. */
async function measureSession(): Promise<SessionCost> {
  const folder = mkdtempSync(join(tmpdir(), "blockllm-session-"));
  try {
    const repository = await openRepository(folder, { create: true });
    await putTinyModel(repository, { name: "tiny", layers: [1] });
    await putTinyModel(repository, { name: "large", layers: [1], shape: { ...TINY, ...SHAPE } });
    const graphOf = async (name: string, kind: string) => {
      const chain = (await resolveChain(repository, name)) as BlockChain;
      const parts = chain.steps.flatMap((step) => (step.kind === "part" ? [step.part] : []));
      return repository.blobs.path(parts.find(({ label }) => label.startsWith(kind))!.graph);
    };
    const open = (path: string) => InferenceSession.create(path, runtimeOptions(2));
    const time = async (session: InferenceSession, width: number) => {
      const feeds = { hidden: new Tensor("float32", new Float32Array(width), [1, 1, width]) };
      const times: number[] = [];
      for (let at = 0; at < 2000; at++) {
        const began = performance.now();
        await session.run(feeds);
        times.push(1000 * (performance.now() - began));
      }
      return spreadOf(times.slice(500)).median;
    };
    const path = await graphOf("tiny", "mlp");
    const sessions = [await open(path)];
    const callUs = await time(sessions[0]!, TINY.hidden);
    const before = proportionalSetBytes();
    while (sessions.length < 101) sessions.push(await open(path));
    const sessionKB = (proportionalSetBytes() - before) / 100 / 1000;
    const largeUs = await time(await open(await graphOf("large", "mlp")), SHAPE.hidden);
    const weightBytes = 3 * 4 * SHAPE.hidden * SHAPE.mlp;
    return { callUs, sessionKB, bytesPerUs: weightBytes / (largeUs - callUs) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function print({ callUs, sessionKB, bytesPerUs }: SessionCost, pairs: { whole: Measured; cut: Measured }[]): void {
  const { cpu, threads, memoryGB, node } = machine();
  console.log(`${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; median (least–most) of ${pairs.length}`);
  const worth = (callUs * bytesPerUs) / 1e6;
  console.log(
    `a call of a session: ${callUs.toFixed(1)} µs, in which one row reads ${worth.toFixed(2)} MB of weights; a session: ${sessionKB.toFixed(0)} kB`,
  );
  const table = new Table({ head: ["", "whole parts", "cut", "ratio"], style: { head: [], border: [] } });
  const row = (what: string, read: (side: Measured) => number, digits: number) => {
    const spread = (values: number[]) => showSpread(spreadOf(values), digits);
    const ratios = pairs.map(({ whole, cut }) => read(cut) / read(whole));
    const sides = [pairs.map(({ whole }) => read(whole)), pairs.map(({ cut }) => read(cut))];
    table.push([what, ...sides.map(spread), showSpread(spreadOf(ratios), 2)]);
  };
  row("weights loaded, MB", ({ bytes }) => bytes / 1e6, 0);
  row("PSS, MB", ({ pssMB }) => pssMB, 0);
  row("sessions", ({ sessions }) => sessions, 0);
  row(`step of ${2 * MODELS} sequences over ${MODELS} models, ms`, ({ togetherMs }) => togetherMs, 1);
  row("the same, processor time, ms", ({ togetherCpuMs }) => togetherCpuMs, 1);
  row("step of one sequence, ms", ({ aloneMs }) => aloneMs, 2);
  console.log(table.toString());
}
