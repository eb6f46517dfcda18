import { openRepository } from "../store/open-repository.ts";
import { BlockllmError } from "../support/errors.ts";
import type { NamedSide } from "./bench.ts";
import { HttpTarget } from "./http-target.ts";
import { longestOf } from "./lengths.ts";
import type { QuestionMix } from "./questions.ts";
import type { Scenario } from "./scenario.ts";
import type { Side } from "./side.ts";
import type { TargetModel } from "./target.ts";

/** What all sides can be asked alike. */
export interface Agreement {
  /** The questions of one run for one side: equal for all sides but for the models' names. */
  mixOf(side: string, run: number): QuestionMix;
  modelsOf(side: string): string[];
  notes: string[];
}

/** Where no side tells its vocabulary: ids below this are in every tokenizer's. */
const SAFE_VOCABULARY = 256;

/** Errors: as opening the repository or connecting; usage where a side has no models. */
export async function agreeOnQuestions(scenario: Scenario, sides: readonly NamedSide[]): Promise<Agreement> {
  const offered = new Map<string, TargetModel[]>();
  for (const { name, side } of sides) offered.set(name, await modelsOf(side));
  const notes: string[] = [];
  const names = sides.map(({ name }) => namesFor(name, { offered, first: offered.get(sides[0]!.name)!, notes }));
  const all = [...offered.values()].flat();
  const vocabulary = leastOf(all.map(({ vocabulary: size }) => size)) ?? SAFE_VOCABULARY;
  const wanted = longestOf(scenario.prompt) + longestOf(scenario.output);
  const contextLength = leastOf(all.map(({ contextLength: length }) => length)) ?? wanted;
  if (wanted > contextLength) {
    notes.push(
      `Prompts and answers of up to ${wanted} tokens are cut to the models' context, ${contextLength} tokens.`,
    );
  }
  const tenants = scenario.tenants.count ?? offered.get(sides[0]!.name)!.length;
  return {
    notes,
    modelsOf: (name) => [...new Set(names[sides.findIndex((side) => side.name === name)])],
    mixOf: (name, run) => {
      const own = names[sides.findIndex((side) => side.name === name)]!;
      return {
        seed: scenario.seed + run * SEED_STRIDE,
        tenants: Array.from({ length: tenants }, (_, tenant) => ({ model: own[tenant % own.length]! })),
        zipf: scenario.tenants.zipf,
        prompt: scenario.prompt,
        output: scenario.output,
        sharedPrefix: scenario.shared_prefix,
        temperature: scenario.temperature,
        vocabulary,
        contextLength,
      };
    },
  };
}

/** Seeds that users choose are small numbers next to each other. */
const SEED_STRIDE = 1_000_003;

async function modelsOf(side: Side): Promise<TargetModel[]> {
  if (side.kind === "http") {
    const { models } = await HttpTarget.connect(side);
    return models.filter(({ name }) => side.models === "all" || side.models.some((one) => sameName(one, name)));
  }
  const repository = await openRepository(side.repository);
  const listed =
    side.models === "all"
      ? (await repository.listModels()).map(({ name }) => name)
      : side.models.map((model) => (typeof model === "string" ? model : model.name));
  const models: TargetModel[] = [];
  for (const each of listed) {
    const { name, document } = await repository.readModel(each);
    models.push({ name, contextLength: document.contextLength, vocabulary: document.vocabSize });
  }
  return models;
}

/** The models of a side in the order of the first side's: by name, or in its own order where it has others. */
function namesFor(
  side: string,
  { offered, first, notes }: { offered: Map<string, TargetModel[]>; first: TargetModel[]; notes: string[] },
): string[] {
  const own = offered.get(side)!;
  if (own.length === 0 || first.length === 0) {
    throw new BlockllmError("usage", `${side} has no models to ask`, { hint: "blockllm split puts models in" });
  }
  const found = first.map(({ name }) => own.find((one) => sameName(one.name, name))?.name);
  if (found.every((name) => name !== undefined)) return found;
  notes.push(`${side} has other models; they are asked in turn: ${own.map(({ name }) => name).join(", ")}.`);
  return first.map((_, at) => own[at % own.length]!.name);
}

function sameName(a: string, b: string): boolean {
  return a.replace(/:latest$/, "") === b.replace(/:latest$/, "");
}

function leastOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known);
}
