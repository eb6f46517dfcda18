/**
 * What lanes would be worth: the eight tenants of bench:decode in one engine with as many threads as there are cores, against
 * two engines side by side in processes of their own, each with half of the threads; and the same of whole-model sessions.
 *
 *   npx tsx bench/lanes.ts [--precision fp32|int8|int4] [--repeats 3] [--steps 96] [--prepared <folder>] [--json]
 *
 * The sides take turns. Two lanes count the sum of both speeds, each over its own steps: the more steps, the less it matters
 * that one begins and ends before the other.
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
    steps: { type: "string", default: "96" },
    folder: { type: "string", default: tmpdir() },
    prepared: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** By places in the list of tenants, so that both lanes of a side take about as long for a step. */
const SIDES = {
  "decode-engine.ts": {
    name: "engine",
    lanes: [
      [0, 1, 7],
      [2, 3, 4, 5, 6],
    ],
  },
  "decode-whole.ts": {
    name: "whole models",
    lanes: [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ],
  },
};
type Script = keyof typeof SIDES;

interface Measured {
  side: string;
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
  const speedOf = async (script: Script, chosen: PreparedModel[], threads: number): Promise<number> => {
    const input: DecodeInput = {
      repository,
      folders: chosen.map(({ folder }) => folder),
      models: chosen.map(({ name }) => name),
      sequencesEach: 2,
      context: 64,
      warmUp: 4,
      steps: Number(values.steps),
      threads,
    };
    return (await runAlone<DecodeResult>(script, input, settingsOfTheCommand())).tokensPerSecond;
  };
  const sides = (Object.keys(SIDES) as Script[]).map((script) => ({
    script,
    together: [] as number[],
    lanes: [] as number[],
  }));
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    for (const { script, together, lanes } of sides) {
      together.push(await speedOf(script, models, availableParallelism()));
      const inLanes = SIDES[script].lanes.map((lane) => lane.map((place) => models[place]!));
      const threads = Math.ceil(availableParallelism() / inLanes.length);
      const speeds = await Promise.all(inLanes.map(async (lane) => await speedOf(script, lane, threads)));
      lanes.push(speeds.reduce((sum, speed) => sum + speed));
    }
  }
  return sides.map(({ script, together, lanes }) => ({
    side: SIDES[script].name,
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
  for (const { side, together, lanes, ratio } of sides)
    table.push([side, showSpread(together, 1), showSpread(lanes, 1), showSpread(ratio, 2)]);
  console.log(table.toString());
  const [engine, whole] = sides as [Measured, Measured];
  const times = (speed: Spread): string => (speed.median / whole.lanes.median).toFixed(2);
  console.log(
    `Of whole models in two lanes: the engine ${times(engine.together)}, in two lanes ${times(engine.lanes)}`,
  );
}
