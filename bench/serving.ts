/**
 * Serving against one deployment per model, as users see it: throughput, latency at a load, overload.
 *
 *   npm run bench:serving -- [--measure throughput,latency,overload] [--precision fp32|int8|int4] [--repeats 3] [--seconds 60]
 *                            [--overload-seconds 300] [--lanes n] [--folder <where to write>] [--prepared <folder>] [--json]
 *
 * Eight tenants of one base: the base itself, three LoRAs (merged, found again by `dedupe --apply`), two with three
 * layers of their own, one with a head of its own, one tuned throughout. What is measured is what `blockllm bench`
 * measures; each side runs in a process of its own, in turns. Making the models takes minutes: with --prepared they
 * stay in that folder, 5.7 GB, and are found there the next time.
 */
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";

import { printBench } from "../src/cli/output/bench.ts";
import { type NamedSide, runBench } from "../src/traffic/bench.ts";
import type { BenchReport } from "../src/traffic/report.ts";
import { engineOptions, parseScenario, type Scenario } from "../src/traffic/scenario.ts";
import { withEightTenants, type EightTenants } from "./eight-tenants.ts";
import { precisionNamed } from "./model-linear.ts";

const { values } = parseArgs({
  options: {
    measure: { type: "string", default: "throughput,latency,overload" },
    precision: { type: "string", default: "fp32" },
    repeats: { type: "string", default: "3" },
    seconds: { type: "string", default: "60" },
    "overload-seconds": { type: "string", default: "300" },
    lanes: { type: "string", default: "1" },
    folder: { type: "string", default: tmpdir() },
    prepared: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** A base that never was trained repeats itself: guessing ahead would show as speed that no real model has. */
const ENGINE = { speculate: "off", lanes: Number(values.lanes) };

/** Short questions and answers, no prompt like another: nothing is found cached, nothing is repeated. */
const QUESTIONS = {
  prompt: { kind: "lognormal", median: 64, sigma: 0.5, min: 16, max: 192 },
  output: { kind: "lognormal", median: 32, sigma: 0.4, min: 8, max: 96 },
};

const SCENARIOS: Record<string, { against: boolean; goals: string; scenario: object }> = {
  throughput: {
    against: true,
    goals: "tokens/s at least 3, memory at most 0.3",
    scenario: {
      arrivals: { kind: "closed", clients: 16 },
      prompt: { kind: "fixed", tokens: 64 },
      output: { kind: "fixed", tokens: 48 },
      engine: ENGINE,
      seconds: Number(values.seconds),
      repeats: Number(values.repeats),
    },
  },
  latency: {
    against: true,
    goals: "p95 at 80 % of saturation at most 0.4",
    scenario: {
      ...QUESTIONS,
      arrivals: { kind: "saturation", shares: [0.4, 0.8], clients: 16 },
      seconds: Number(values.seconds),
      repeats: Number(values.repeats),
      timeout_seconds: 600,
      engine: ENGINE,
    },
  },
  overload: {
    against: false,
    goals: "every request an answer or a 429, nothing left, p99 of answers bounded",
    scenario: {
      ...QUESTIONS,
      arrivals: { kind: "saturation", shares: [3], clients: 16 },
      tenants: { zipf: 0.9 },
      seconds: Number(values["overload-seconds"]),
      repeats: 1,
      retries: 1,
      timeout_seconds: 600,
      engine: { ...ENGINE, max_queue: 32, max_sequences: 32 },
    },
  },
};

const reports = await withEightTenants(
  { precision: precisionNamed(values.precision), parent: values.folder, prepared: values.prepared },
  measureServing,
);
if (values.json) console.log(JSON.stringify(reports, null, 2));

async function measureServing(tenants: EightTenants): Promise<Record<string, BenchReport>> {
  const measured: Record<string, BenchReport> = {};
  for (const name of values.measure.split(",")) {
    const chosen = SCENARIOS[name];
    if (!chosen) throw new Error(`--measure is ${name}; it can be ${Object.keys(SCENARIOS).join(", ")}`);
    const scenario = parseScenario({ name, ...chosen.scenario }, name);
    const sides = sidesOf(tenants, scenario).slice(0, chosen.against ? 2 : 1);
    const signal = new AbortController().signal;
    measured[name] = await runBench({ scenario, sides, signal, onProgress: (doing) => console.error(doing) });
    if (!values.json) console.log(`${printBench(measured[name])}\nGoal: ${chosen.goals}\n`);
  }
  return measured;
}

function sidesOf({ repository, models }: EightTenants, scenario: Scenario): NamedSide[] {
  const engine = engineOptions(scenario);
  return [
    { name: "blockllm", about: "shared blocks", side: { kind: "engine", repository, models: "all", engine } },
    {
      name: "per-model",
      about: "one whole-model session each",
      side: { kind: "per-model", repository, models, engine },
    },
  ];
}
