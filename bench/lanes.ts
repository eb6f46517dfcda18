/**
 * What lanes are worth: the eight tenants of bench:decode in one engine with as many threads as there are cores, against the
 * same engine with two lanes (`serve --lanes 2`), and against two engines side by side in processes of their own, each with
 * half of the threads; and the last of whole-model sessions.
 *
 *   npx tsx bench/lanes.ts [--precision fp32|int8|int4] [--repeats 3] [--steps 96] [--prepared <folder>] [--json]
 *
 * The sides take turns. Two processes count the sum of both speeds, each over its own steps: the more steps, the less it
 * matters that one begins and ends before the other.
 * Nothing is shared between them but the page cache, so memory is not compared.
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
    hasLanes: true,
    lanes: [
      [0, 1, 7],
      [2, 3, 4, 5, 6],
    ],
  },
  "decode-whole.ts": {
    name: "whole models",
    hasLanes: false,
    lanes: [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ],
  },
};
type Script = keyof typeof SIDES;

/** Enough for the engine's lanes to have been tried and chosen. */
const WARM_UP = 16;

interface Measured {
  side: string;
  /** Tokens per second. */
  together: Spread;
  /** In one process; null: it has none. */
  lanes: Spread | null;
  processes: Spread;
  /** Of `together`. */
  laneRatio: Spread | null;
  processRatio: Spread;
}

const precision = precisionNamed(values.precision);
const measured = await withEightTenants({ precision, parent: values.folder, prepared: values.prepared }, measureLanes);
if (values.json) console.log(JSON.stringify({ machine: machine(), precision, measured }, null, 2));
else print(measured);

async function measureLanes({ repository, models }: EightTenants): Promise<Measured[]> {
  const speedOf = async (
    script: Script,
    chosen: PreparedModel[],
    { threads, lanes = 1 }: { threads: number; lanes?: number },
  ): Promise<number> => {
    const input: DecodeInput = {
      repository,
      folders: chosen.map(({ folder }) => folder),
      models: chosen.map(({ name }) => name),
      sequencesEach: 2,
      context: 64,
      warmUp: WARM_UP,
      steps: Number(values.steps),
      threads,
      lanes,
    };
    return (await runAlone<DecodeResult>(script, input, settingsOfTheCommand())).tokensPerSecond;
  };
  const threads = availableParallelism();
  const sides = (Object.keys(SIDES) as Script[]).map((script) => ({
    script,
    together: [] as number[],
    lanes: [] as number[],
    processes: [] as number[],
  }));
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    for (const { script, together, lanes, processes } of sides) {
      together.push(await speedOf(script, models, { threads }));
      if (SIDES[script].hasLanes) lanes.push(await speedOf(script, models, { threads, lanes: 2 }));
      const parts = SIDES[script].lanes.map((lane) => lane.map((place) => models[place]!));
      const half = Math.ceil(threads / parts.length);
      const speeds = await Promise.all(parts.map(async (part) => await speedOf(script, part, { threads: half })));
      processes.push(speeds.reduce((sum, speed) => sum + speed));
    }
  }
  return sides.map(({ script, together, lanes, processes }) => {
    const ratioOf = (speeds: number[]): Spread => spreadOf(speeds.map((speed, repeat) => speed / together[repeat]!));
    return {
      side: SIDES[script].name,
      together: spreadOf(together),
      lanes: lanes.length === 0 ? null : spreadOf(lanes),
      processes: spreadOf(processes),
      laneRatio: lanes.length === 0 ? null : ratioOf(lanes),
      processRatio: ratioOf(processes),
    };
  });
}

function print(sides: readonly Measured[]): void {
  const { cpu, threads, memoryGB, node } = machine();
  console.log(
    `${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; ${precision}; tokens/s, medians (least–most)`,
  );
  const head = ["", "together", "two lanes", "ratio", "two processes", "ratio"];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const { side, together, lanes, laneRatio, processes, processRatio } of sides)
    table.push([
      side,
      showSpread(together, 1),
      lanes ? showSpread(lanes, 1) : "",
      laneRatio ? showSpread(laneRatio, 2) : "",
      showSpread(processes, 1),
      showSpread(processRatio, 2),
    ]);
  console.log(table.toString());
  const [engine, whole] = sides as [Measured, Measured];
  for (const one of ["together", "processes"] as const) {
    const times = (speed: Spread): string => (speed.median / whole[one].median).toFixed(2);
    console.log(
      `Of whole models ${one === "together" ? "one after the other" : "in two processes"}: the engine` +
        ` ${times(engine.together)}, with two lanes ${times(engine.lanes!)}, in two processes ${times(engine.processes)}`,
    );
  }
}
