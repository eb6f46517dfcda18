import { availableParallelism } from "node:os";
import { openRepository } from "../store/open-repository.ts";
import { BlockllmError } from "../support/errors.ts";
import type { NamedSide } from "../traffic/bench.ts";
import { longestOf } from "../traffic/lengths.ts";
import { findPeer, isPeerName, PEER_PACKAGES, type PeerName } from "../traffic/peers/installed-peer.ts";
import { type ModelFolders, modelFolders } from "../traffic/per-model/model-folders.ts";
import { engineOptions, type Scenario } from "../traffic/scenario.ts";
import type { CommandContext } from "./context.ts";
import { readGivenFile } from "./read-given-file.ts";

export interface SideOptions {
  url?: string;
  against?: string;
  models?: string[];
  originals?: string;
  keys?: string;
}

export interface PreparedSides {
  /** What is measured, then what it is compared with, if anything. */
  sides: NamedSide[];
  notes: string[];
  /** What was written for the measurement. */
  remove(): Promise<void>;
}

/** What `bench` was asked to measure. Errors: usage, and as modelFolders. */
export async function prepareSides(
  context: CommandContext,
  scenario: Scenario,
  options: SideOptions,
): Promise<PreparedSides> {
  const keys = options.keys === undefined ? [] : await readKeys(options.keys);
  const models = options.models ?? "all";
  const first: NamedSide =
    options.url === undefined
      ? {
          name: "blockllm",
          about: "this repository's models over shared blocks, in one process",
          side: { kind: "engine", repository: context.repositoryPath, models, engine: engineOptions(scenario) },
        }
      : { name: options.url, about: "a server, over HTTP", side: { kind: "http", url: options.url, keys, models } };
  const { against } = options;
  if (against === undefined) return { sides: [first], notes: [], remove: async () => {} };
  if (against === "per-model" || isPeerName(against))
    return await besideWholeModels(context, { first, scenario, against, options });
  checkAddress(against);
  const second: NamedSide = {
    name: against,
    about: "a server, over HTTP",
    side: { kind: "http", url: against, keys, models: "all" },
  };
  return { sides: [first, second], notes: [], remove: async () => {} };
}

async function besideWholeModels(
  context: CommandContext,
  {
    first,
    scenario,
    against,
    options,
  }: { first: NamedSide; scenario: Scenario; against: "per-model" | PeerName; options: SideOptions },
): Promise<PreparedSides> {
  const { repositoryPath, progress, signal } = context;
  const entry = against === "per-model" ? "" : findPeer(against, process.cwd());
  if (entry === null) {
    const note = `${against} was left out: it is not installed here (npm install ${PEER_PACKAGES[against as PeerName]}).`;
    return { sides: [first], notes: [note], remove: async () => {} };
  }
  const repository = await openRepository(repositoryPath);
  const names = options.models ?? (await repository.listModels()).map(({ name }) => name);
  const folders = await modelFolders(repository, names, {
    originals: options.originals ?? null,
    signal,
    onExport: (name) => progress.start(`writing ${name} as a whole model`),
  });
  const second =
    against === "per-model"
      ? wholeModels(repositoryPath, folders, scenario)
      : peer(repositoryPath, folders, { name: against, entry, scenario });
  return { sides: [first, second], notes: [], remove: async () => await folders.remove() };
}

function wholeModels(repository: string, { models, exported }: ModelFolders, scenario: Scenario): NamedSide {
  const files = exported.length === 0 ? "on the original files" : "on exported files";
  return {
    name: "per-model",
    about: `one whole-model session each, ${files}, sequences of a model in one batch, the same queue and scheduler`,
    side: { kind: "per-model", repository, models, engine: engineOptions(scenario) },
  };
}

/** Sequences that a peer holds per model where it must know before. */
const PEER_SEQUENCES = 4;

function peer(
  repository: string,
  { models }: ModelFolders,
  { name, entry, scenario }: { name: PeerName; entry: string; scenario: Scenario },
): NamedSide {
  const how =
    name === "transformers.js"
      ? "answers of a model one after the other"
      : `${PEER_SEQUENCES} sequences of a model in one batch`;
  return {
    name,
    about: `one model each, ${how}`,
    side: {
      kind: "peer",
      peer: name,
      entry,
      repository,
      models,
      sequences: PEER_SEQUENCES,
      contextLength: longestOf(scenario.prompt) + longestOf(scenario.output) + 1,
      threads: scenario.engine.threads ?? availableParallelism(),
    },
  };
}

function checkAddress(text: string): void {
  if (URL.canParse(text) && /^https?:/.test(text)) return;
  const words = ["per-model", ...Object.keys(PEER_PACKAGES)].join(", ");
  throw new BlockllmError("usage", `--against is "${text}"; it must be ${words} or an address`, {
    hint: "--against per-model, or --against http://127.0.0.1:8080",
  });
}

async function readKeys(file: string): Promise<string[]> {
  const text = await readGivenFile(file, { what: `--keys ${file}`, hint: "the file holds one API key per line" });
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "");
}
