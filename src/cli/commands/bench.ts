import { readFile } from "node:fs/promises";
import { openRepository } from "../../store/open-repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { type NamedSide, runBench } from "../../traffic/bench.ts";
import { BUILT_IN_SCENARIOS } from "../../traffic/built-in-scenarios.ts";
import { type Gate, judge } from "../../traffic/gates.ts";
import { modelFolders } from "../../traffic/per-model/model-folders.ts";
import type { BenchReport } from "../../traffic/report.ts";
import { engineOptions, readScenario, type Scenario } from "../../traffic/scenario.ts";
import { defineCommand } from "../command.ts";
import type { CommandContext } from "../context.ts";
import { printBench } from "../output/bench.ts";
import { renderBenchPage } from "../output/html/bench-page.ts";
import { commaSeparated, duration, realNumber, wholeNumber } from "../parse-values.ts";
import { checkReportPath, writeReport } from "../write-report.ts";

interface BenchOptions {
  scenario?: string;
  url?: string;
  against?: string;
  models?: string[];
  originals?: string;
  keys?: string;
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
      help: "compare with per-model: one whole-model session each; or with the server at an address",
    },
    {
      flags: "--models <names>",
      help: "models to ask, with commas between them (default: all)",
      parse: commaSeparated,
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
    const { sides, remove } = await prepareSides(context, scenario, options);
    const { progress, signal } = context;
    try {
      progress.start(`${scenario.name}: starting`);
      const report = await runBench({ scenario, sides, signal, onProgress: (doing) => progress.update(doing) });
      progress.succeed(`measured ${scenario.name}`);
      const bench = { ...report, gates: judge(report, options) };
      if (options.report !== undefined)
        await writeReport(options.report, renderBenchPage(bench, { madeAt: new Date() }));
      return bench;
    } finally {
      await remove();
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

async function prepareSides(
  { repositoryPath, progress, signal }: CommandContext,
  scenario: Scenario,
  options: BenchOptions,
): Promise<{ sides: NamedSide[]; remove: () => Promise<void> }> {
  const keys = options.keys === undefined ? [] : await readKeys(options.keys);
  const models = options.models ?? "all";
  const engine = engineOptions(scenario);
  const first: NamedSide =
    options.url === undefined
      ? {
          name: "blockllm",
          about: "this repository's models over shared blocks, in one process",
          side: { kind: "engine", repository: repositoryPath, models, engine },
        }
      : { name: options.url, about: "a server, over HTTP", side: { kind: "http", url: options.url, keys, models } };
  if (options.against === undefined) return { sides: [first], remove: async () => {} };
  if (options.against !== "per-model") {
    checkAddress(options.against);
    const second: NamedSide = {
      name: options.against,
      about: "a server, over HTTP",
      side: { kind: "http", url: options.against, keys, models: "all" },
    };
    return { sides: [first, second], remove: async () => {} };
  }
  const repository = await openRepository(repositoryPath);
  const names = models === "all" ? (await repository.listModels()).map(({ name }) => name) : models;
  const folders = await modelFolders(repository, names, {
    originals: options.originals ?? null,
    signal,
    onExport: (name) => progress.start(`writing ${name} as a whole model`),
  });
  const second: NamedSide = {
    name: "per-model",
    about: `one whole-model session each${folders.exported.length === 0 ? ", on the original files" : ""}, sequences of a model in one batch, the same queue and scheduler`,
    side: { kind: "per-model", repository: repositoryPath, models: folders.models, engine },
  };
  return { sides: [first, second], remove: async () => await folders.remove() };
}

function checkAddress(text: string): void {
  if (URL.canParse(text) && /^https?:/.test(text)) return;
  throw new BlockllmError("usage", `--against is "${text}"; it must be per-model or an address`, {
    hint: "--against per-model, or --against http://127.0.0.1:8080",
  });
}

async function readKeys(file: string): Promise<string[]> {
  const lines = (await readFile(file, "utf8")).split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "");
}
