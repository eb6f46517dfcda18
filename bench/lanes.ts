/**
 * What lanes would be worth: the eight tenants of bench:decode in one engine with as many threads as there are cores, against
 * two engines side by side in processes of their own, each with half of the threads; and the same of whole-model sessions.
 *
 *   npx tsx bench/lanes.ts [--precision fp32|int8|int4] [--repeats 3] [--steps 64] [--prepared <folder>] [--json]
 *
 * The sides take turns. Two lanes count the sum of both speeds, each over its own steps; the slower one is alone for its last.
 * Nothing is shared between their processes but the page cache, so memory is not compared.
 */
import { availableParallelism, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import type { DecodeInput, DecodeResult } from "./decode-sides.ts";
import { withEightTenants, type EightTenants, type PreparedModel } from "./eight-tenants.ts";
import { machine, runAlone, settingsOfTheCommand, showSpread, spreadOf, type Spread } from "./measure.ts";
import { precisionNamed } from "./model-linear.ts";

const { values } = parseArgs({
  options: {
    precision: { type: "string", default: "fp32" },
    repeats: { type: "string", default: "3" },
    steps: { type: "string", default: "64" },
    folder: { type: "string", default: tmpdir() },
    prepared: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** The model that was tuned throughout with few others, so that both lanes take about as long for a step. */
const LANES = [
  [0, 1, 7],
  [2, 3, 4, 5, 6],
];
const SIDES = ["decode-engine.ts", "decode-whole.ts"] as const;

interface Measured {
  side: (typeof SIDES)[number];
  /** Tokens per second. */
  together: Spread;
  lanes: Spread;
  ratio: Spread;
}

const precision = precisionNamed(values.precision);
const measured = await withEightTenants({ precision, parent: values.folder, prepared: values.prepared }, measureLanes);
if (values.json) console.log(JSON.stringify({ machine: machine(), precision, measured }, null, 2));
else print(measured);

async function measureLanes({ repository, models }: EightTenants): Promise<Measured[]> {
  const threads = availableParallelism();
  const speedOf = async (side: string, chosen: PreparedModel[], share: number): Promise<number> => {
    const input: DecodeInput = {
      repository,
      folders: chosen.map(({ folder }) => folder),
      models: chosen.map(({ name }) => name),
      sequencesEach: 2,
      context: 64,
      warmUp: 4,
      steps: Number(values.steps),
      threads: Math.ceil(threads / share),
    };
    return (await runAlone<DecodeResult>(side, input, settingsOfTheCommand())).tokensPerSecond;
  };
  const pairs = SIDES.map((side) => ({ side, together: [] as number[], lanes: [] as number[] }));
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    for (const { side, together, lanes } of pairs) {
      together.push(await speedOf(side, models, 1));
      const both = LANES.map((lane) =>
        speedOf(
          side,
          lane.map((model) => models[model]!),
          LANES.length,
        ),
      );
      lanes.push((await Promise.all(both)).reduce((sum, speed) => sum + speed));
    }
  }
  return pairs.map(({ side, together, lanes }) => ({
    side,
    together: spreadOf(together),
    lanes: spreadOf(lanes),
    ratio: spreadOf(lanes.map((speed, repeat) => speed / together[repeat]!)),
  }));
}

function print(sides: readonly Measured[]): void {
  const { cpu, threads, memoryGB, node } = machine();
  console.log(
    `${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; ${precision}; tokens/s, medians (least–most)`,
  );
  const table = new Table({ head: ["", "together", "two lanes", "ratio"], style: { head: [], border: [] } });
  for (const { side, together, lanes, ratio } of sides) {
    const name = side === "decode-engine.ts" ? "engine" : "whole models";
    table.push([name, showSpread(together, 1), showSpread(lanes, 1), showSpread(ratio, 2)]);
  }
  console.log(table.toString());
}
