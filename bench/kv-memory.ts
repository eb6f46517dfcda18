/**
 * KV memory as the engine reports it against what the operating system counts.
 *
 *   npm run bench:kv -- [--sequences 16] [--tokens 768] [--repeats 3] [--folder <where to write>] [--json]
 *
 * A model with SmolLM2-135M's keys and values (30 layers, 3 heads of 64) and narrow weights, so that computing takes
 * little. Sequences are filled to a short context and then as many more to a long one; between the two the growth of
 * reported bytes is compared with that of the proportional set size. Of several looks at either the smallest counts:
 * outputs that JavaScript has not collected yet come and go.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import type { KvMemoryInput, KvMemoryResult } from "./kv-memory-engine.ts";
import { makeModels } from "./make-models.ts";
import { machine, runAlone, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M, type Shapes } from "./model-graph.ts";
import { inWorkFolder } from "./work-folder.ts";

const NARROW: Shapes = { ...SMOLLM2_135M, hidden: 64, heads: 3, inner: 64, vocabulary: 512 };

const { values } = parseArgs({
  options: {
    sequences: { type: "string", default: "16" },
    tokens: { type: "string", default: "768" },
    repeats: { type: "string", default: "3" },
    folder: { type: "string", default: tmpdir() },
    json: { type: "boolean", default: false },
  },
});

const results = await inWorkFolder(values.folder, async (folder) => {
  const [model] = await makeModels(join(folder, "models"), { shapes: NARROW, tenants: ["base"] });
  const repository = join(folder, "blocks");
  await addModel(await openRepository(repository, { create: true }), model!.folder);
  const input: KvMemoryInput = {
    repository,
    sequences: Number(values.sequences),
    tokens: Number(values.tokens),
  };
  const runs: KvMemoryResult[] = [];
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    runs.push(await runAlone<KvMemoryResult>("kv-memory-engine.ts", input));
  }
  return runs;
});
if (values.json) console.log(JSON.stringify({ machine: machine(), results }, null, 2));
else print(results);

function print(runs: KvMemoryResult[]): void {
  const of = (value: (run: KvMemoryResult) => number): Spread => spreadOf(runs.map(value));
  const table = new Table({ head: ["", "measured", "goal"], style: { head: [], border: [] } });
  table.push(
    [
      "reported growth, MB",
      showSpread(
        of(({ reportedBytes }) => reportedBytes / 1e6),
        1,
      ),
      "",
    ],
    [
      "PSS growth, MB",
      showSpread(
        of(({ grownBytes }) => grownBytes / 1e6),
        1,
      ),
      "",
    ],
    [
      "PSS growth / reported",
      showSpread(
        of((run) => run.grownBytes / run.reportedBytes),
        3,
      ),
      "0.97 to 1.03",
    ],
    [
      "claimed beyond tokens, pages per sequence and layer",
      showSpread(
        of(({ wastedPages }) => wastedPages),
        2,
      ),
      "at most 1",
    ],
    [
      "claimed when all ended, bytes",
      showSpread(
        of(({ leftBytes }) => leftBytes),
        0,
      ),
      "0",
    ],
  );
  console.log(table.toString());
}
