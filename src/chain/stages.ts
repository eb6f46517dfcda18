/** One run of a segment for every chain that stands before it. */
export interface Stage {
  segment: number;
  /** Which chains take part and with which of their segments, counted along their own walk. */
  members: { chain: number; position: number }[];
}

/**
 * Orders the walks of all chains into stages so that a shared segment runs once for as many chains as possible: a
 * segment waits until every chain that will still need it stands before it. Where walks cross (one has a before b,
 * another b before a) the segment most chains wait for goes first. Chains that share nothing advance side by side, so that
 * what they do between two segments can be done for all of them at once. `walks[chain]` is a list of segment ids.
 */
export function orderStages(walks: number[][]): Stage[] {
  const position = walks.map(() => 0);
  const stages: Stage[] = [];
  const ahead = countChainsAhead(walks);
  for (;;) {
    const standing = standingBefore(walks, position);
    if (standing.size === 0) return stages;
    const segment = pickSegment(standing, { ahead, position });
    const members = standing.get(segment)!.map((chain) => ({ chain, position: position[chain]!++ }));
    stages.push({ segment, members });
    for (const { chain } of members) {
      if (!walks[chain]!.includes(segment, position[chain])) ahead.set(segment, ahead.get(segment)! - 1);
    }
  }
}

/** segment → the chains whose next segment it is; in the order of the chains. */
function standingBefore(walks: number[][], position: number[]): Map<number, number[]> {
  const standing = new Map<number, number[]>();
  walks.forEach((walk, chain) => {
    const next = walk[position[chain]!];
    if (next !== undefined) standing.set(next, [...(standing.get(next) ?? []), chain]);
  });
  return standing;
}

function pickSegment(
  standing: Map<number, number[]>,
  { ahead, position }: { ahead: Map<number, number>; position: number[] },
): number {
  const ready = [...standing].filter(([segment, chains]) => chains.length === ahead.get(segment));
  const passed = (chains: number[]): number => Math.min(...chains.map((chain) => position[chain]!));
  if (ready.length > 0) return ready.reduce((a, b) => (passed(b[1]) < passed(a[1]) ? b : a))[0];
  return [...standing].reduce((a, b) => (b[1].length > a[1].length ? b : a))[0];
}

/** segment → how many chains have it somewhere in the rest of their walk. */
function countChainsAhead(walks: number[][]): Map<number, number> {
  const ahead = new Map<number, number>();
  for (const walk of walks) for (const segment of new Set(walk)) ahead.set(segment, (ahead.get(segment) ?? 0) + 1);
  return ahead;
}
