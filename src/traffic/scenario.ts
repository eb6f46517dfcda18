import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { EngineKnobs } from "../engine/engine-client.ts";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf, wrongPathReason } from "../support/reason.ts";
import { BUILT_IN_SCENARIOS } from "./built-in-scenarios.ts";
import type { LengthDistribution } from "./lengths.ts";

const count = z.int().min(1);
const positive = z.number().gt(0);
/** One value, or several: one point of a latency curve each. */
const oneOrMore = z.union([positive.transform((value) => [value]), z.array(positive).min(1)]);

const length = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("fixed"), tokens: count }),
  z.strictObject({ kind: z.literal("uniform"), from: count, to: count }),
  z.strictObject({
    kind: z.literal("lognormal"),
    median: z.number().min(1),
    sigma: positive.max(4),
    min: count.default(1),
    max: count,
  }),
]);

const countOrMore = z.union([count.transform((value) => [value]), z.array(count).min(1)]);

/** Seconds, ascending from 0. */
const times = z
  .array(z.number().min(0))
  .min(1)
  .refine((values) => values.every((value, at) => at === 0 || value >= values[at - 1]!), {
    error: "expected times in ascending order",
  });

const arrivals = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("closed"), clients: countOrMore }),
  z.strictObject({ kind: z.enum(["poisson", "constant"]), rate: oneOrMore }),
  /** Rates as shares of what a closed loop of `clients` gets done, measured first. */
  z.strictObject({ kind: z.literal("saturation"), shares: oneOrMore, clients: count.default(16) }),
  z.strictObject({ kind: z.literal("trace"), times, speed: oneOrMore.default([1]) }),
]);

const scenarioSchema = z
  .strictObject({
    name: z.string().min(1),
    about: z.string().default(""),
    seed: z.int().min(0).default(1),
    arrivals,
    /** `count` null: one per model. */
    tenants: z
      .strictObject({ count: count.nullable().default(null), zipf: z.number().min(0).max(5).default(0) })
      .prefault({}),
    prompt: length,
    output: length,
    shared_prefix: z.int().min(0).default(0),
    temperature: z.number().min(0).max(2).default(0),
    /** Of each run; what comes first ends it. */
    requests: count.nullable().default(null),
    seconds: positive.nullable().default(null),
    /** Asked before each run and not measured. */
    warm_up: z.int().min(0).default(8),
    repeats: count.default(3),
    timeout_seconds: positive.max(3600).default(120),
    /** How often a request that got 429 comes back, when it was told to. */
    retries: z.int().min(0).max(100).default(0),
    goals: z.strictObject({ first_token_ms: positive.optional(), token_ms: positive.optional() }).prefault({}),
    engine: z
      .strictObject({
        threads: count.optional(),
        memory: count.optional(),
        kv_memory: count.optional(),
        solo: z.enum(["auto", "off"]).optional(),
        share_batches: z.enum(["auto", "always"]).optional(),
        lanes: count.optional(),
        max_batch_tokens: count.optional(),
        max_sequences: count.optional(),
        max_queue: count.optional(),
        speculate: z.enum(["auto", "off"]).optional(),
        prefix_cache: z.enum(["on", "off"]).optional(),
      })
      .prefault({}),
  })
  .refine(({ requests, seconds, arrivals: { kind } }) => requests !== null || seconds !== null || kind === "trace", {
    error: "expected a number, here or in seconds: nothing ends a run",
    path: ["requests"],
  })
  .refine(
    ({ arrivals: given, engine: { max_queue } }) =>
      given.kind !== "saturation" || given.clients <= (max_queue ?? given.clients),
    {
      error: "expected at most engine.max_queue: clients that are refused find no saturation",
      path: ["arrivals", "clients"],
    },
  )
  .refine(({ prompt }) => isOrdered(prompt), { error: "expected from ≤ to, min ≤ max", path: ["prompt"] })
  .refine(({ output }) => isOrdered(output), { error: "expected from ≤ to, min ≤ max", path: ["output"] });

/** What is asked, how often, of whom: the same for every target. docs/bench.md describes each key. */
export type Scenario = z.output<typeof scenarioSchema>;

/** A built-in scenario by name, or one from a JSON file. Errors: scenario_invalid, naming the key. */
export async function readScenario(nameOrPath: string): Promise<Scenario> {
  const known = BUILT_IN_SCENARIOS[nameOrPath];
  if (known !== undefined) return parseScenario({ name: nameOrPath, ...known }, nameOrPath);
  const text = await readScenarioFile(nameOrPath);
  try {
    return parseScenario(JSON.parse(text), nameOrPath);
  } catch (error) {
    if (error instanceof BlockllmError) throw error;
    throw new BlockllmError("scenario_invalid", `${nameOrPath} is not JSON: ${reasonOf(error)}`);
  }
}

async function readScenarioFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const reason = wrongPathReason(cause);
    if (reason === null) throw cause;
    throw new BlockllmError("scenario_invalid", `no scenario ${path}: ${reason}`, {
      hint: `a JSON file, or one of ${Object.keys(BUILT_IN_SCENARIOS).join(", ")}`,
      cause,
    });
  }
}

export function parseScenario(value: unknown, from: string): Scenario {
  const parsed = scenarioSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  const key = path.length === 0 ? "the scenario" : `"${path.join(".")}"`;
  throw new BlockllmError("scenario_invalid", `${from}: ${key}: ${message.replace(/^Invalid input: /, "")}`, {
    hint: "docs/bench.md lists the keys",
  });
}

function isOrdered(distribution: LengthDistribution): boolean {
  if (distribution.kind === "fixed") return true;
  return distribution.kind === "uniform" ? distribution.from <= distribution.to : distribution.min <= distribution.max;
}

/** What a scenario asks of engines that the measurement starts itself. */
export function engineOptions({ engine }: Scenario): EngineKnobs {
  const given = {
    threads: engine.threads,
    memoryBytes: engine.memory,
    kvMemoryBytes: engine.kv_memory,
    solo: engine.solo,
    shareBatches: engine.share_batches,
    lanes: engine.lanes,
    maxBatchTokens: engine.max_batch_tokens,
    maxSequences: engine.max_sequences,
    maxQueue: engine.max_queue,
    speculate: engine.speculate,
    prefixCache: engine.prefix_cache,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as EngineKnobs;
}
