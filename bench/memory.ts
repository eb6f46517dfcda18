/**
 * What models take in memory, counted and measured: each one that comes, all at work, those left when the others went, and the
 * most while models take turns in a budget that does not hold them all.
 *
 *   npx tsx bench/memory.ts [--folder <where to write>] [--share 0.6] [--json]
 *
 * Twice: with the allocator's settings that `blockllm` starts with (bin/blockllm.js), and without. Memory is PSS beyond what the
 * process took before its engine.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { applyTiers } from "../src/store/apply-tiers.ts";
import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { makeModels, type Tenant } from "./make-models.ts";
import { machine, runAlone, settingsOfTheCommand } from "./measure.ts";
import type { GrowingResult, Held, MemoryInput, ShortResult } from "./memory-engine.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import { inWorkFolder } from "./work-folder.ts";

const MB = 1e6;
const TENANTS: Tenant[] = ["base", "lora", "last-layers", "head", "full"];

const { values } = parseArgs({
  options: {
    folder: { type: "string", default: tmpdir() },
    share: { type: "string", default: "0.6" },
    json: { type: "boolean", default: false },
  },
});

const report = await inWorkFolder(values.folder, async (folder) => {
  const models = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: TENANTS });
  const repository = join(folder, "blocks");
  const store = await openRepository(repository, { create: true });
  for (const model of models) await addModel(store, model.folder);
  await applyTiers(store, undefined, { tiers: ["lowrank"], keepOriginals: true });
  const input: MemoryInput = { repository, models: models.map(({ name }) => name) };
  const asStarted = await measure(input, settingsOfTheCommand());
  return { machine: machine(), asStarted, plain: await measure(input, {}) };
});
if (values.json) console.log(JSON.stringify(report, null, 2));
else print(report.asStarted, report.plain);

interface Column extends GrowingResult {
  short: ShortResult & { budget: number };
}

async function measure(input: MemoryInput, variables: Record<string, string>): Promise<Column> {
  const growing = await runAlone<GrowingResult>("memory-engine.ts", input, variables);
  const budget = Math.ceil(growing.came.at(-1)!.counted * Number(values.share));
  const short = await runAlone<ShortResult>("memory-engine.ts", { ...input, budget }, variables);
  return { ...growing, short: { ...short, budget } };
}

function print(asStarted: Column, plain: Column): void {
  const table = new Table({
    head: ["MB", "counted", "PSS as `blockllm` starts", "PSS by plain `node`"],
    style: { head: [], border: [] },
    colAligns: ["left", "right", "right", "right"],
  });
  const row = (label: string, of: (result: Column) => Held): void => {
    table.push([label, ...[of(asStarted).counted, of(asStarted).measured, of(plain).measured].map(megabytes)]);
  };
  const grown = ({ came }: Column, at: number): Held => ({
    counted: came[at]!.counted - (came[at - 1]?.counted ?? 0),
    measured: came[at]!.measured - (came[at - 1]?.measured ?? 0),
  });
  TENANTS.forEach((tenant, at) => row(`${at === 0 ? "" : "+ "}${tenant}`, (result) => grown(result, at)));
  row("all, having answered", ({ used }) => used);
  row("the base, the others gone", ({ left }) => left);
  row(`the most in a budget of ${megabytes(asStarted.short.budget)}`, ({ short }) => ({
    counted: short.budget,
    measured: short.most,
  }));
  console.log(table.toString());
  const { loads, unloads } = asStarted.short;
  console.log(
    `${loads} segments were loaded in that budget, ${unloads} unloaded; Node took ${megabytes(asStarted.process)} before`,
  );
}

function megabytes(bytes: number): string {
  return (bytes / MB).toFixed(0);
}
