import { BlockllmError } from "../../support/errors.ts";
import { runBench } from "../../traffic/bench.ts";
import { BUILT_IN_SCENARIOS } from "../../traffic/built-in-scenarios.ts";
import { type Gate, judge } from "../../traffic/gates.ts";
import type { BenchReport } from "../../traffic/report.ts";
import { readScenario, type Scenario } from "../../traffic/scenario.ts";
import { defineCommand } from "../command.ts";
import { prepareSides, type SideOptions } from "../bench-sides.ts";
import { printBench } from "../output/bench.ts";
import { renderBenchPage } from "../output/html/bench-page.ts";
import { duration, nameList, realNumber, wholeNumber } from "../parse-values.ts";
import { checkReportPath, writeReport } from "../write-report.ts";

interface BenchOptions extends SideOptions {
  scenario?: string;
  repeats?: number;
  seconds?: number;
  report?: string;
  minRatio?: number;
  maxP95?: number;
  maxErrors?: number;
}

type Bench = BenchReport & { gates: Gate[] };

const DEFAULT_SCENARIO = "chat";
const SCENARIO_NAMES = Object.keys(BUILT_IN_SCENARIOS).join(", ");

export const benchCommand = defineCommand<BenchOptions, Bench>({
  usage: "bench",
  summary: "asks a server or the repository's models many questions, and measures the answers",
  options: [
    {
      flags: "--scenario <file>",
      help: `what to ask and how often: ${SCENARIO_NAMES}, or a JSON file (default: ${DEFAULT_SCENARIO})`,
    },
    {
      flags: "--url <address>",
      help: "measure the OpenAI-compatible server there (default: the models in this repository)",
    },
    {
      flags: "--against <side>",
      help: "compare with per-model (one whole-model session each), transformers.js or node-llama-cpp where they are installed, or a server's address",
    },
    {
      flags: "--models <names>",
      help: "models to ask, with commas between them (default: all)",
      parse: nameList("--models"),
    },
    {
      flags: "--originals <folder>",
      help: "where the whole models for per-model lie, by name (default: they are exported)",
    },
    { flags: "--keys <file>", help: "API keys for servers, one per line; the tenants use them in turn" },
    { flags: "--repeats <count>", help: "instead of the scenario's", parse: wholeNumber("--repeats", 1, 100) },
    {
      flags: "--seconds <count>",
      help: "of each run, instead of the scenario's",
      parse: realNumber("--seconds", 0.1, 86_400),
    },
    { flags: "--report <file>", help: "write a page with latency curves, one HTML file" },
    {
      flags: "--min-ratio <ratio>",
      help: "exit with 3 when tokens/s against the other side is less, at the last load",
      parse: realNumber("--min-ratio", 0, 1000),
    },
    {
      flags: "--max-p95 <time>",
      help: "exit with 3 when the 95th percentile of latency is more, at any load",
      parse: duration("--max-p95"),
    },
    {
      flags: "--max-errors <count>",
      help: "exit with 3 when more requests got no answer and no 429",
      parse: wholeNumber("--max-errors", 0),
    },
  ],
  examples: [
    "blockllm bench --scenario batch --against per-model --min-ratio 2",
    "blockllm bench --scenario chat --report bench.html",
    "blockllm bench --url http://127.0.0.1:8080 --scenario overload --seconds 60 --max-errors 0",
  ],
  async run(context, _operands, options) {
    const scenario = await chooseScenario(options);
    if (options.report !== undefined) await checkReportPath(options.report);
    const prepared = await prepareSides(context, scenario, options);
    const { progress, signal } = context;
    try {
      progress.start(`${scenario.name}: starting`);
      const report = await runBench({
        scenario,
        sides: prepared.sides,
        signal,
        onProgress: (doing) => progress.update(doing),
      });
      progress.succeed(`measured ${scenario.name}`);
      const bench = { ...report, notes: [...prepared.notes, ...report.notes], gates: judge(report, options) };
      if (options.report !== undefined)
        await writeReport(options.report, renderBenchPage(bench, { madeAt: new Date() }));
      return bench;
    } finally {
      await prepared.remove();
    }
  },
  print: printBench,
  verdict({ gates }) {
    const missed = gates.filter(({ passed }) => !passed);
    if (missed.length === 0) return null;
    return new BlockllmError("gate_not_met", missed.map(({ says }) => says).join("; "));
  },
});

async function chooseScenario({ scenario, repeats, seconds }: BenchOptions): Promise<Scenario> {
  const chosen = await readScenario(scenario ?? DEFAULT_SCENARIO);
  return { ...chosen, repeats: repeats ?? chosen.repeats, seconds: seconds ?? chosen.seconds };
}
