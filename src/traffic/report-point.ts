import { spreadOf, type Spread } from "./percentiles.ts";
import { measureOf, MEASURES, RATIOS, type MeasureName, type PointLoad, type PointReport } from "./report.ts";
import type { Sample } from "./sample.ts";
import type { RunSummary } from "./summary.ts";

/** One run: a point of the scenario, on one side, in one repeat. */
export interface Measured {
  side: string;
  /** Which point. */
  place: number;
  repeat: number;
  samples: readonly Sample[];
  summary: RunSummary;
}

/** `sides`: what is measured, then what it is compared with. */
export function reportPoint(
  load: PointLoad,
  { measured, sides }: { measured: readonly Measured[]; sides: readonly string[] },
): PointReport {
  const runsOf = (name: string): Measured[] => measured.filter(({ side }) => side === name);
  const results = sides.map((side) => {
    const runs = runsOf(side).map(({ summary }) => summary);
    return { side, medians: spreads(MEASURES, (name) => runs.flatMap((run) => measureOf(run, name) ?? [])), runs };
  });
  const [first, second] = sides;
  if (first === undefined || second === undefined) return { load, results, ratios: null, same_tokens: null };
  const pairs = runsOf(first).flatMap((one) => {
    const other = runsOf(second).find(({ repeat }) => repeat === one.repeat);
    return other === undefined ? [] : [[one, other] as const];
  });
  return {
    load,
    results,
    ratios: spreads(RATIOS, (name) => pairs.flatMap(([a, b]) => ratio(a.summary, b.summary, name) ?? [])),
    same_tokens: compareTokens(pairs.map(([a, b]) => [a.samples, b.samples])),
  };
}

function spreads<Name extends MeasureName>(
  names: readonly Name[],
  valuesOf: (name: Name) => number[],
): Record<Name, Spread | null> {
  return Object.fromEntries(names.map((name) => [name, spreadOf(valuesOf(name))])) as Record<Name, Spread | null>;
}

function ratio(first: RunSummary, second: RunSummary, name: MeasureName): number | null {
  const [above, below] = [measureOf(first, name), measureOf(second, name)];
  return above === null || below === null || below === 0 ? null : above / below;
}

function compareTokens(pairs: (readonly [readonly Sample[], readonly Sample[]])[]): {
  compared: number;
  equal: number;
} {
  let compared = 0;
  let equal = 0;
  for (const [first, second] of pairs) {
    const digests = new Map(second.filter(isWhole).map(({ index, digest }) => [index, digest]));
    for (const { index, digest } of first.filter(isWhole)) {
      if (!digests.has(index)) continue;
      compared++;
      if (digests.get(index) === digest) equal++;
    }
  }
  return { compared, equal };
}

function isWhole({ outcome, digest }: Sample): boolean {
  return outcome.kind === "finished" && digest !== null;
}
