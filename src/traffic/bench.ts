import { agreeOnQuestions, type Agreement } from "./agree-on-questions.ts";
import { describeMachine } from "./machine.ts";
import { spreadOf } from "./percentiles.ts";
import { describePoint, loadOf, pointsOf, saturatingLoad, warmUpLoad } from "./points.ts";
import { reportPoint, type Measured } from "./report-point.ts";
import type { BenchReport } from "./report.ts";
import type { Scenario } from "./scenario.ts";
import { SideProcess } from "./side-process.ts";
import type { Side } from "./side.ts";
import { summarise } from "./summary.ts";

export interface NamedSide {
  name: string;
  /** One sentence on how it serves. */
  about: string;
  side: Side;
}

export interface BenchOptions {
  scenario: Scenario;
  /** What is measured, and then what it is compared with, if anything. */
  sides: readonly NamedSide[];
  signal: AbortSignal;
  onProgress?: (doing: string) => void;
}

/**
 * Plays a scenario on every side: each in a process of its own, the sides in turns, all points of the scenario in each
 * turn. Loads given as shares refer to what the side compared with, or else the only one, gets done; that is measured
 * anew in every repeat, because machines have moods. Errors: what opening a side throws.
 */
export async function runBench(options: BenchOptions): Promise<BenchReport> {
  const { scenario, sides } = options;
  const machine = describeMachine();
  const agreed = await agreeOnQuestions(scenario, sides);
  const turns: Turn[] = [];
  for (let repeat = 0; repeat < scenario.repeats; repeat++) {
    let saturation: number | null = null;
    for (const side of sides.toReversed()) {
      const turn = await playTurn(options, { side, repeat, agreed, saturation });
      saturation = turn.saturation;
      turns.push(turn);
    }
  }
  const names = sides.map(({ name }) => name);
  const measured = turns.flatMap((turn) => turn.measured);
  const saturations = turns.filter(({ side }) => side === names.at(-1)).flatMap(({ saturation }) => saturation ?? []);
  return {
    scenario,
    machine,
    sides: sides.map(({ name, about }) => ({
      name,
      about,
      models: agreed.modelsOf(name),
      load_seconds: spreadOf(turns.filter(({ side }) => side === name).map(({ loadSeconds }) => loadSeconds))!,
    })),
    saturation: saturations.length === 0 ? null : { side: names.at(-1)!, requests_per_second: spreadOf(saturations)! },
    points: pointsOf(scenario).map((point, place) =>
      reportPoint(point, { measured: measured.filter((one) => one.place === place), sides: names }),
    ),
    notes: agreed.notes,
  };
}

interface Turn {
  side: string;
  loadSeconds: number;
  /** Requests per second; null where no load refers to it. */
  saturation: number | null;
  measured: Measured[];
}

/** One side, loaded, asked at all points, and ended. `saturation`: as an earlier turn of this repeat found it. */
async function playTurn(
  { scenario, signal, onProgress = () => {} }: BenchOptions,
  turn: { side: NamedSide; repeat: number; agreed: Agreement; saturation: number | null },
): Promise<Turn> {
  const { name, side } = turn.side;
  const doing = (what: string): void =>
    onProgress(`repeat ${turn.repeat + 1} of ${scenario.repeats}, ${name}: ${what}`);
  doing("loading");
  const process = await SideProcess.open(side, signal);
  // Every run asks other questions, or prompts of an earlier one would be found cached; in the same run all sides get the same.
  const mixOf = (run: number): ReturnType<Agreement["mixOf"]> => turn.agreed.mixOf(name, run);
  try {
    let { saturation } = turn;
    const saturating = saturatingLoad(scenario, mixOf(0));
    if (saturating !== null && saturation === null) {
      doing("measuring saturation");
      const run = await process.run(saturating, warmUpLoad(scenario, mixOf(1)));
      saturation = summarise(run.result, scenario.goals, run.left).requests_per_second;
    }
    const measured: Measured[] = [];
    for (const [place, point] of pointsOf(scenario).entries()) {
      doing(describePoint(point));
      const load = loadOf(scenario, point, { mix: mixOf(2 + 2 * place), saturation });
      const { result, left } = await process.run(load, warmUpLoad(scenario, mixOf(3 + 2 * place)));
      const summary = summarise(result, scenario.goals, left);
      measured.push({ side: name, place, repeat: turn.repeat, samples: result.samples, summary });
    }
    return { side: name, loadSeconds: process.loadSeconds, saturation, measured };
  } finally {
    await process.close();
  }
}
