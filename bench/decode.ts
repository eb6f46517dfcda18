/**
 * Tokens per second and memory of the engine against whole-model sessions of the same files in onnxruntime-node.
 *
 *   npm run bench:decode -- [--measure one,shared] [--precision fp32|int8|int4] [--context 64] [--repeats 3] [--steps 32]
 *                           [--threads n] [--lanes n] [--folder <where to write>] [--prepared <folder>] [--json]
 *
 * Each side runs in a process of its own, with the allocator's settings that `blockllm` starts with; the two alternate, ratios
 * are taken pair by pair. Whole models: one session each, the same thread options, keys and values fed back, a batch of their
 * sequences, one model after the other.
 */
import { availableParallelism, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import type { StepProfile } from "./decode-profile.ts";
import type { DecodeInput, DecodeResult } from "./decode-sides.ts";
import { withEightTenants, type EightTenants, type PreparedModel } from "./eight-tenants.ts";
import { machine, runAlone, settingsOfTheCommand, showSpread, spreadOf, type Spread } from "./measure.ts";
import { precisionNamed, type Precision } from "./model-linear.ts";

const WARM_UP = 16;

const { values } = parseArgs({
  options: {
    measure: { type: "string", default: "one,shared" },
    precision: { type: "string", default: "fp32" },
    repeats: { type: "string", default: "3" },
    steps: { type: "string", default: "32" },
    context: { type: "string", default: "64" },
    threads: { type: "string", default: String(availableParallelism()) },
    lanes: { type: "string", default: "1" },
    folder: { type: "string", default: tmpdir() },
    prepared: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

const precision = precisionNamed(values.precision);
const measured = await withEightTenants({ precision, parent: values.folder, prepared: values.prepared }, measureDecode);
if (values.json) console.log(JSON.stringify(measured, null, 2));
else print(measured);

interface Comparison {
  models: number;
  sequencesEach: number;
  engine: Side;
  whole: Side;
  /** Engine / whole, pair by pair. */
  speedRatio: Spread;
  /** The same of tokens per processor second. */
  processorRatio: Spread;
  memoryRatio: Spread;
  /** The first sequence's tokens are equal on both sides in every pair. */
  sameTokens: boolean;
  profile: StepProfile;
}

interface Side {
  tokensPerSecond: Spread;
  processorMilliseconds: Spread;
  bytes: Spread;
}

interface DecodeReport {
  machine: ReturnType<typeof machine>;
  precision: Precision;
  context: number;
  steps: number;
  threads: number;
  lanes: number;
  /** Of one sequence of the base. */
  one: Comparison | null;
  /** Of two sequences of each of the eight. */
  shared: Comparison | null;
}

async function measureDecode({ repository, models }: EightTenants): Promise<DecodeReport> {
  const [context, steps, threads, lanes] = [values.context, values.steps, values.threads, values.lanes].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const common = { repository, context, steps, threads, lanes, warmUp: WARM_UP };
  const chosenScenarios = values.measure.split(",");
  const compareWhere = async (scenario: string, input: Omit<DecodeInput, keyof typeof common>) =>
    chosenScenarios.includes(scenario) ? await compare({ ...common, ...input }) : null;
  return {
    machine: machine(),
    precision,
    context,
    steps,
    threads,
    lanes,
    one: await compareWhere("one", { ...chosen(models.slice(0, 1)), sequencesEach: 1 }),
    shared: await compareWhere("shared", { ...chosen(models), sequencesEach: 2 }),
  };
}

function chosen(models: PreparedModel[]): Pick<DecodeInput, "folders" | "models"> {
  return { folders: models.map(({ folder }) => folder), models: models.map(({ name }) => name) };
}

async function compare(input: DecodeInput): Promise<Comparison> {
  const pairs: { engine: DecodeResult; whole: DecodeResult }[] = [];
  const settings = settingsOfTheCommand();
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    const engine = await runAlone<DecodeResult>("decode-engine.ts", input, settings);
    const whole = await runAlone<DecodeResult>("decode-whole.ts", input, settings);
    pairs.push({ engine, whole });
  }
  return {
    models: input.models.length,
    sequencesEach: input.sequencesEach,
    engine: sideOf(pairs.map(({ engine }) => engine)),
    whole: sideOf(pairs.map(({ whole }) => whole)),
    speedRatio: spreadOf(pairs.map(({ engine, whole }) => engine.tokensPerSecond / whole.tokensPerSecond)),
    processorRatio: spreadOf(
      pairs.map(({ engine, whole }) => whole.processorMilliseconds / engine.processorMilliseconds),
    ),
    memoryRatio: spreadOf(pairs.map(({ engine, whole }) => engine.bytes / whole.bytes)),
    sameTokens: pairs.every(({ engine, whole }) => engine.tokens.join() === whole.tokens.join()),
    profile: await runAlone<StepProfile>("decode-profile.ts", input),
  };
}

function sideOf(results: DecodeResult[]): Side {
  return {
    tokensPerSecond: spreadOf(results.map(({ tokensPerSecond }) => tokensPerSecond)),
    processorMilliseconds: spreadOf(results.map(({ processorMilliseconds }) => processorMilliseconds)),
    bytes: spreadOf(results.map(({ bytes }) => bytes)),
  };
}

function print(report: DecodeReport): void {
  const { cpu, threads, memoryGB, node } = report.machine;
  console.log(`${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}`);
  console.log(
    `${report.precision}, ${report.context} tokens of context, ${report.steps} steps, ${report.threads} threads a session, ${report.lanes} lanes; medians (least–most)`,
  );
  if (report.one) printComparison("one sequence", report.one, { speed: "at least 1", memory: "" });
  if (report.shared === null) return;
  const { models, sequencesEach } = report.shared;
  const title = `${models * sequencesEach} sequences, ${models} models: base, 3 LoRAs, 2 last layers, head, full`;
  printComparison(title, report.shared, { speed: `at least ${speedGoal(report)}`, memory: "at most 0.3" });
}

function speedGoal({ precision: stored, context }: DecodeReport): number {
  if (stored !== "fp32") return 2;
  return context >= 512 ? 2.2 : 3;
}

function printComparison(title: string, comparison: Comparison, goals: { speed: string; memory: string }): void {
  const { engine, whole, profile } = comparison;
  const table = new Table({
    head: [title, "engine", "whole models", "ratio", "goal"],
    style: { head: [], border: [] },
  });
  table.push(
    [
      "tokens/s",
      showSpread(engine.tokensPerSecond, 1),
      showSpread(whole.tokensPerSecond, 1),
      showSpread(comparison.speedRatio, 2),
      goals.speed,
    ],
    [
      "tokens per processor second",
      showSpread(inverse(engine.processorMilliseconds), 1),
      showSpread(inverse(whole.processorMilliseconds), 1),
      showSpread(comparison.processorRatio, 2),
      "",
    ],
    ["PSS, MB", megabytes(engine.bytes), megabytes(whole.bytes), showSpread(comparison.memoryRatio, 2), goals.memory],
    ["same tokens", comparison.sameTokens ? "yes" : "no", "", "", "yes"],
  );
  console.log(table.toString());
  console.log(
    `A step of the engine: ${milliseconds(profile.step)} = segments ${milliseconds(profile.segments)} in ${profile.segmentCalls} calls` +
      ` + attention cores ${milliseconds(profile.cores)} in ${profile.coreCalls} calls + JavaScript ${milliseconds(profile.rest)}`,
  );
}

function inverse({ median, least, most }: Spread): Spread {
  return { median: 1000 / median, least: 1000 / most, most: 1000 / least };
}

function megabytes({ median, least, most }: Spread): string {
  return showSpread({ median: median / 1e6, least: least / 1e6, most: most / 1e6 }, 0);
}

function milliseconds(value: number): string {
  return `${value.toFixed(1)} ms`;
}
