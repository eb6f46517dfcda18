/**
 * Whether drafts from a surrogate chain (the model's own chain with blocks left out) would pay.
 *
 *   npm run bench:surrogate -- [--models hr,legal] [--prompts 12] [--steps 40] [--folder <where to write>] [--large] [--json]
 *
 * Trained models: blocks are left out greedily by measured agreement with the model's own greedy answers. What a draft
 * step and a pass over 1 + k rows cost is measured beside single steps, in turns, for one sequence and for sixteen. The
 * speed that follows is (1 + α + … + α^k) ÷ (k · draft + pass); a loop that really drafts and verifies checks it.
 * `--large`: the costs for one sequence of SmolLM2-135M shapes, and the agreement that would be needed there.
 */
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import type { Repository } from "../src/store/repository.ts";
import { loadTextModel } from "../src/text/load-text-model.ts";
import { makeModels } from "./make-models.ts";
import { machine } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { measureCosts, runLoop, type Costs, type LoopResult } from "./surrogate-costs.ts";
import {
  answerAll,
  innerBlocks,
  leaveOutGreedily,
  surrogateOf,
  type Answered,
  type Rated,
} from "./surrogate-search.ts";
import { inWorkFolder } from "./work-folder.ts";

const { values } = parseArgs({
  options: {
    models: { type: "string", default: "support,legal,finance,hr,research" },
    prompts: { type: "string", default: "12" },
    steps: { type: "string", default: "40" },
    folder: { type: "string", default: tmpdir() },
    large: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const DESK = join(import.meta.dirname, "../fixtures/desk");
const STEPS = Number(values.steps);
const ANSWER = 14;
const DRAFTS = [1, 2, 3, 4, 6, 8];
const BATCHES = values.large ? [1] : [1, 16];

interface Row {
  model: string;
  leftOut: string;
  agreement: number | null;
  batch: number;
  /** Of a draft step, in single steps. */
  draft: number;
  /** Of a pass over one row and the best number of drafts. */
  pass: number;
  drafts: number;
  /** Tokens per second against single steps, as it follows from the costs. */
  speed: number | null;
  /** The agreement at which it would be 1, with the best number of drafts. */
  breakEven: number;
  loop: LoopResult | null;
}

const measured = await inWorkFolder(values.folder, values.large ? measureLarge : measureTrained);
if (values.json) console.log(JSON.stringify({ machine: machine(), rows: measured }, null, 2));
else print(measured);

async function measureTrained(folder: string): Promise<Row[]> {
  const store = await openRepository(join(folder, "blocks"), { create: true });
  const results: Row[] = [];
  for (const model of values.models.split(",")) {
    await addModel(store, join(DESK, "optimum", model));
    const { document } = await store.readModel(model);
    const answers = await answerAll(store, model, { prompts: await promptsOf(store, model), count: ANSWER });
    const path = await leaveOutGreedily(store, { model, document, answers });
    const rated: { surrogate: Rated; rows: Row[] }[] = [];
    for (const surrogate of path) rated.push({ surrogate, rows: await rate(store, { model, surrogate, answers }) });
    const best = rated.toSorted((a, b) => b.rows[0]!.speed! - a.rows[0]!.speed!)[0]!;
    const drafts = best.rows[0]!.drafts;
    best.rows[0]!.loop = await runLoop(store, { model, surrogate: best.surrogate, answers, drafts });
    results.push(...rated.flatMap(({ rows }) => rows));
  }
  return results;
}

/** Evenly chosen blocks of a model that was never trained: its costs are real, its agreement says nothing. */
async function measureLarge(folder: string): Promise<Row[]> {
  const [made] = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: ["base"] });
  const store = await openRepository(join(folder, "blocks"), { create: true });
  await addModel(store, made!.folder);
  const { document } = await store.readModel(made!.name);
  const layers = innerBlocks(document);
  const results: Row[] = [];
  for (const share of [1 / 3, 2 / 3, 5 / 6]) {
    const removed = layers.filter((_, at) => Math.floor((at / 2 + 1) * share) > Math.floor((at / 2) * share));
    const surrogate = surrogateOf(made!.name, document, removed);
    const labels = [`${surrogate.removed.length} of ${layers.length} blocks`];
    const answers = [{ prompt: Array.from({ length: 64 }, (_, at) => 1000 + at * 7), answer: [] }];
    results.push(...(await rate(store, { model: made!.name, surrogate: { ...surrogate, labels }, answers })));
  }
  return results;
}

interface Candidate {
  model: string;
  surrogate: Omit<Rated, "agreement"> & { agreement?: number };
  answers: readonly Answered[];
}

async function rate(store: Repository, { model, surrogate, answers }: Candidate): Promise<Row[]> {
  const agreement = surrogate.agreement ?? null;
  const costs = await measureCosts(store, {
    model,
    surrogate,
    prompt: answers[0]!.prompt,
    batches: BATCHES,
    drafts: DRAFTS,
    steps: STEPS,
  });
  return costs.map((cost): Row => {
    const best = bestOf(cost, agreement ?? 0.9);
    return {
      model,
      leftOut: surrogate.labels.join(", "),
      agreement,
      batch: cost.batch,
      draft: cost.draft,
      pass: cost.passes.get(best)!,
      drafts: best,
      speed: agreement === null ? null : speedOf(cost, best, agreement),
      breakEven: breakEvenOf(cost),
      loop: null,
    };
  });
}

/** Tokens of a round over what the round costs, in single steps. */
function speedOf({ draft, passes }: Costs, count: number, agreement: number): number {
  let tokens = 1;
  for (let k = 1; k <= count; k++) tokens += agreement ** k;
  return tokens / (count * draft + passes.get(count)!);
}

function bestOf(costs: Costs, agreement: number): number {
  return DRAFTS.toSorted((a, b) => speedOf(costs, b, agreement) - speedOf(costs, a, agreement))[0]!;
}

/** Above 1: not even drafts that are always right would pay. */
function breakEvenOf(costs: Costs): number {
  for (let agreement = 0; agreement <= 1; agreement += 0.01)
    if (speedOf(costs, bestOf(costs, agreement), agreement) >= 1) return agreement;
  return Infinity;
}

async function promptsOf(store: Repository, model: string): Promise<number[][]> {
  const { document } = await store.readModel(model);
  const text = await loadTextModel(store, document);
  const task = JSON.parse(readFileSync(join(DESK, "eval", `${model}.json`), "utf8")) as { prompt: string }[];
  return task.slice(0, Number(values.prompts)).map(({ prompt }) => text.tokenizer.encode(prompt));
}

/** Of each trained model and batch size the surrogate that should be fastest; all of an untrained one. */
function fastestOf(list: Row[]): Row[] {
  const groups = new Map<string, Row[]>();
  for (const row of list) {
    const key = row.speed === null ? `${row.leftOut} ${row.batch}` : `${row.model} ${row.batch}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map((rows) => rows.toSorted((a, b) => (b.speed ?? 0) - (a.speed ?? 0))[0]!);
}

function print(list: Row[]): void {
  const { cpu, threads, node } = machine();
  console.log(`${cpu}, ${threads} threads, Node ${node}; costs in single steps of the same batch, medians`);
  const table = new Table({
    head: [
      "model",
      "left out",
      "agreement",
      "batch",
      "draft",
      "k",
      "pass",
      "speed",
      "pays from",
      "loop",
      "same tokens",
    ],
    style: { head: [], border: [] },
    colWidths: [11, 34],
    wordWrap: true,
  });
  for (const row of fastestOf(list)) {
    table.push([
      row.model,
      row.leftOut,
      row.agreement?.toFixed(2) ?? "",
      row.batch,
      row.draft.toFixed(2),
      row.drafts,
      row.pass.toFixed(2),
      row.speed?.toFixed(2) ?? "",
      row.breakEven === Infinity ? "never" : row.breakEven.toFixed(2),
      row.loop?.speed.toFixed(2) ?? "",
      row.loop === null ? "" : row.loop.sameTokens ? "yes" : "no",
    ]);
  }
  console.log(table.toString());
}
