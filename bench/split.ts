/**
 * How fast `split` takes a 540 MB model in, against sha256 alone over the same bytes, and how much memory it takes.
 *
 *   npm run bench:split -- [--repeats 5] [--folder <where to write>] [--json]
 */
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { makeModels } from "./make-models.ts";
import { machine, runAlone, showSpread, spreadOf, type Spread } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import type { SplitInput, SplitResult } from "./split-alone.ts";
import { inWorkFolder } from "./work-folder.ts";

const { values } = parseArgs({
  options: {
    repeats: { type: "string", default: "5" },
    folder: { type: "string", default: tmpdir() },
    json: { type: "boolean", default: false },
  },
});

const outcome = await inWorkFolder(values.folder, (folder) => measureSplit(folder, Number(values.repeats)));
if (values.json) console.log(JSON.stringify(outcome, null, 2));
else print(outcome);

interface SplitReport {
  machine: ReturnType<typeof machine>;
  bytes: number;
  splitSeconds: Spread;
  sha256Seconds: Spread;
  /** sha256's time / split's time, pair by pair: 1 is as fast as sha256. */
  speedRatio: Spread;
  /** The same of processor time. */
  processorRatio: Spread;
  peakBytes: number;
}

async function measureSplit(folder: string, repeats: number): Promise<SplitReport> {
  const [model] = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: ["base"] });
  const data = (model!.weights[0]!.data as { path: string }).path;
  const repository = join(folder, "blocks");
  const common = { folder: dirname(data), data, repository };
  const alone = async (side: SplitInput["side"], watchMemory = false): Promise<SplitResult> => {
    const result = await runAlone<SplitResult>("split-alone.ts", { ...common, side, watchMemory } satisfies SplitInput);
    await rm(repository, { recursive: true, force: true });
    return result;
  };

  await alone("sha256");
  const pairs: { split: SplitResult; sha256: SplitResult }[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const sha256 = await alone("sha256");
    const split = await alone("split");
    pairs.push({ split, sha256 });
  }
  return {
    machine: machine(),
    bytes: model!.bytes,
    splitSeconds: spreadOf(pairs.map(({ split }) => split.seconds)),
    sha256Seconds: spreadOf(pairs.map(({ sha256 }) => sha256.seconds)),
    speedRatio: spreadOf(pairs.map(({ split, sha256 }) => sha256.seconds / split.seconds)),
    processorRatio: spreadOf(pairs.map(({ split, sha256 }) => sha256.processorSeconds / split.processorSeconds)),
    peakBytes: (await alone("split", true)).peakBytes,
  };
}

function print({ machine: { cpu, threads, memoryGB, node }, bytes, ...measured }: SplitReport): void {
  const megabytes = bytes / 1e6;
  console.log(`${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; ${megabytes.toFixed(0)} MB of weights`);
  const table = new Table({ head: ["", "median (least–most)", "goal"], style: { head: [], border: [] } });
  table.push(
    ["split, s", showSpread(measured.splitSeconds, 2), ""],
    ["split, MB/s", (megabytes / measured.splitSeconds.median).toFixed(0), ""],
    ["sha256 alone, s", showSpread(measured.sha256Seconds, 2), ""],
    ["speed of split / speed of sha256", showSpread(measured.speedRatio, 2), "at least 0.5"],
    ["the same of processor time", showSpread(measured.processorRatio, 2), ""],
    ["peak PSS, MB", (measured.peakBytes / 1e6).toFixed(0), "below 300"],
  );
  console.log(table.toString());
}
