/**
 * The engine against the other runtimes that Node has: transformers.js with one long sequence, node-llama-cpp with one
 * model each for eight tenants. They are nobody's dependency: each must be installed in the project given.
 *
 *   npm run bench:peers -- --project <folder> [--measure transformers.js,node-llama-cpp] [--repeats 3] [--seconds 60]
 *                          [--lanes n] [--folder <where to write>] [--prepared <folder>] [--json]
 *
 * transformers.js reads the very file that was split. node-llama-cpp gets a file of the same weights in Q8_0.
 */
import { writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { printBench } from "../src/cli/output/bench.ts";
import { runBench } from "../src/traffic/bench.ts";
import { longestOf } from "../src/traffic/lengths.ts";
import { findPeer, isPeerName, PEER_PACKAGES, type PeerName } from "../src/traffic/peers/installed-peer.ts";
import type { BenchReport } from "../src/traffic/report.ts";
import { engineOptions, parseScenario } from "../src/traffic/scenario.ts";
import { withEightTenants, type EightTenants, type PreparedModel } from "./eight-tenants.ts";
import { writeLlamaFile } from "./llama-file.ts";
import { SMOLLM2_135M, type Shapes } from "./model-graph.ts";
import type { Precision } from "./model-linear.ts";

const { values } = parseArgs({
  options: {
    project: { type: "string", default: process.cwd() },
    measure: { type: "string", default: Object.keys(PEER_PACKAGES).join(",") },
    repeats: { type: "string", default: "3" },
    seconds: { type: "string", default: "60" },
    lanes: { type: "string", default: "1" },
    folder: { type: "string", default: tmpdir() },
    prepared: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** Sequences of one model that node-llama-cpp has room for; 16 clients ask eight models by chance. */
const SEQUENCES = 4;

interface PeerBench {
  precision: Precision;
  goals: string;
  models: (tenants: EightTenants) => PreparedModel[];
  scenario: object;
  /** Makes of a model what the peer reads. */
  prepare: (folder: string) => Promise<void>;
}

const PEERS: Record<PeerName, PeerBench> = {
  "transformers.js": {
    precision: "fp32",
    goals: "later tokens (token p50) at most 0.91, that is 1.1 times as many per second",
    models: ({ models }) => models.slice(0, 1),
    scenario: {
      arrivals: { kind: "closed", clients: 1 },
      prompt: { kind: "fixed", tokens: 1000 },
      output: { kind: "fixed", tokens: 64 },
      warm_up: 1,
    },
    prepare: async (folder) =>
      await writeFile(join(folder, "config.json"), JSON.stringify(transformersConfig(SMOLLM2_135M), null, 2)),
  },
  "node-llama-cpp": {
    precision: "int8",
    goals: "tokens/s at least 1.5, memory at most 0.5",
    models: ({ models }) => models,
    scenario: {
      arrivals: { kind: "closed", clients: 16 },
      prompt: { kind: "fixed", tokens: 64 },
      output: { kind: "fixed", tokens: 48 },
    },
    prepare: async (folder) => await writeLlamaFile(folder, SMOLLM2_135M),
  },
};

const reports: Record<string, BenchReport> = {};
for (const name of values.measure.split(",")) {
  if (!isPeerName(name))
    throw new Error(`--measure is ${name}; it can be ${Object.keys(PEER_PACKAGES).join(", ")} or both`);
  const entry = findPeer(name, values.project);
  if (entry === null) {
    console.error(`${name} is not installed in ${values.project}: npm install ${PEER_PACKAGES[name]}`);
    process.exitCode = 1;
    continue;
  }
  const { precision, goals } = PEERS[name];
  reports[name] = await withEightTenants(
    { precision, parent: values.folder, prepared: values.prepared },
    async (tenants) => await measurePeer({ name, entry, tenants }),
  );
  if (!values.json) console.log(`${printBench(reports[name])}\nGoal: ${goals}\n`);
}
if (values.json) console.log(JSON.stringify(reports, null, 2));

async function measurePeer({
  name,
  entry,
  tenants,
}: {
  name: PeerName;
  entry: string;
  tenants: EightTenants;
}): Promise<BenchReport> {
  const { prepare, models: choose, scenario: asked } = PEERS[name];
  const models = choose(tenants);
  for (const { folder } of models) await prepare(folder);
  const { repository } = tenants;
  const common = { seconds: Number(values.seconds), repeats: Number(values.repeats), timeout_seconds: 600 };
  // A model that never was trained repeats itself: guessing ahead would show as speed that no real model has.
  const engine = { speculate: "off", lanes: Number(values.lanes) };
  const scenario = parseScenario({ name, ...asked, ...common, engine }, name);
  return await runBench({
    scenario,
    sides: [
      {
        name: "blockllm",
        about: "shared blocks",
        side: {
          kind: "engine",
          repository,
          models: models.map((model) => model.name),
          engine: engineOptions(scenario),
        },
      },
      {
        name,
        about: "one model each",
        side: {
          kind: "peer",
          peer: name,
          entry,
          repository,
          models,
          sequences: SEQUENCES,
          contextLength: longestOf(scenario.prompt) + longestOf(scenario.output) + 1,
          threads: availableParallelism(),
        },
      },
    ],
    signal: new AbortController().signal,
    onProgress: (doing) => console.error(doing),
  });
}

function transformersConfig(shapes: Shapes): object {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: shapes.hidden,
    num_attention_heads: shapes.heads,
    num_key_value_heads: shapes.keyValueHeads,
    num_hidden_layers: shapes.layers,
    head_dim: shapes.headSize,
    intermediate_size: shapes.inner,
    vocab_size: shapes.vocabulary,
    max_position_embeddings: shapes.context,
    bos_token_id: 1,
    eos_token_id: 2,
  };
}
