/** Something loaded that might be unloaded. */
export interface LoadedUnit {
  key: string;
  bytes: number;
  /** No running sequence needs it. */
  idle: boolean;
  /** Models that a waiting sequence asked for need it. */
  wanted: boolean;
  /** Models that need it; 0: it only makes something faster. */
  models: number;
  /** When it was last needed, in any unit that grows. */
  lastUse: number;
}

/**
 * What to unload for `bytes` more: first what nobody needs, then what nobody waits for, what one model alone needs before what several share,
 * what was needed longest ago, of equals the biggest. Nothing where all of it together is not enough.
 */
export function chooseIdle(units: readonly LoadedUnit[], bytes: number): LoadedUnit[] {
  const idle = units.filter((unit) => unit.idle).toSorted(compareUse);
  const chosen: LoadedUnit[] = [];
  let left = bytes;
  for (const unit of idle) {
    if (left <= 0) break;
    chosen.push(unit);
    left -= unit.bytes;
  }
  if (left > 0) return [];
  // What was chosen early may be small beside what came last.
  return chosen.filter((unit) => {
    if (left + unit.bytes > 0) return true;
    left += unit.bytes;
    return false;
  });
}

function compareUse(a: LoadedUnit, b: LoadedUnit): number {
  return (
    Number(a.models > 0) - Number(b.models > 0) ||
    Number(a.wanted) - Number(b.wanted) ||
    Number(a.models > 1) - Number(b.models > 1) ||
    a.lastUse - b.lastUse ||
    b.bytes - a.bytes ||
    (a.key < b.key ? -1 : 1)
  );
}
