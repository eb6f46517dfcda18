import { factorAt, sourceAt } from "./form.ts";
import { Unliftable, type Form, type Known } from "./value.ts";

/**
 * A query, key or value read as heads: element d of head h for new token s is
 * `direct[s][h·size+d] · row[columns[h·size+d]] + crossed[s][h·size+d] · row[partners[h·size+d]]`
 * of one source row; without rotary embedding `crossed` is 0 everywhere.
 */
export interface Heads {
  source: number;
  heads: number;
  size: number;
  columns: Int32Array;
  partners: Int32Array;
  direct: Float64Array[];
  crossed: Float64Array[];
  factors: Known[];
}

/** Where element (head, token, d) of a form lies; the form's own axes may be in any order. */
export type ElementAt = (head: number, token: number, d: number) => number;

export interface HeadShape {
  heads: number;
  size: number;
  /** New tokens. */
  sequence: number;
  /** Width of the source row node. */
  width: (source: number) => number;
}

/** Reads `form` as heads of the new tokens, or says why it is not. */
export function readHeads(form: Form, at: ElementAt, shape: HeadShape & { node: string }): Heads {
  const { heads, size, sequence, node } = shape;
  const [first, second] = form.terms;
  if (first === undefined) throw new Error("heads are read only where elements are followed");
  const source = sourceAt(first, at(0, 0, 0));
  if (source < 0) throw new Unliftable(node, "attention reads cached keys where it should read new ones");
  const width = shape.width(source);
  const found: Heads = {
    source,
    heads,
    size,
    columns: new Int32Array(heads * size),
    partners: new Int32Array(heads * size).fill(-1),
    direct: Array.from({ length: sequence }, () => new Float64Array(heads * size)),
    crossed: Array.from({ length: sequence }, () => new Float64Array(heads * size)),
    factors: form.factors,
  };
  for (let s = 0; s < sequence; s++) {
    for (let head = 0; head < heads; head++) {
      for (let d = 0; d < size; d++) {
        const element = at(head, s, d);
        const slot = head * size + d;
        found.direct[s]![slot] = factorAt(first, element);
        checkColumn(found.columns, slot, columnOf(first.index[element]!, { s, width, node }), { fresh: s === 0, node });
        if (sourceAt(first, element) !== source)
          throw new Unliftable(node, "one attention input mixes several projections");
        const partner = second?.index[element] ?? -1;
        if (second === undefined || partner < 0) continue;
        if (sourceAt(second, element) !== source) throw new Unliftable(node, "a rotation mixes several projections");
        found.crossed[s]![slot] = factorAt(second, element);
        checkColumn(found.partners, slot, columnOf(partner, { s, width, node }), { fresh: s === 0, node });
      }
    }
  }
  return rotatedFirst(ordered(found));
}

/**
 * Puts the rotated elements of each head first. Scores do not change while queries and keys are reordered alike, and
 * both are: which elements rotate follows from the position embedding they share.
 */
function rotatedFirst(found: Heads): Heads {
  const { size, partners } = found;
  const all = Array.from({ length: size }, (_, d) => d);
  const order = [...all.filter((d) => partners[d]! >= 0), ...all.filter((d) => partners[d]! < 0)];
  if (order.every((d, i) => d === i)) return found;
  const reorder = <T extends Int32Array | Float64Array>(values: T): T =>
    values.map((_, slot) => values[slot - (slot % size) + order[slot % size]!]!) as T;
  return {
    ...found,
    columns: reorder(found.columns),
    partners: reorder(partners),
    direct: found.direct.map(reorder),
    crossed: found.crossed.map(reorder),
  };
}

function columnOf(index: number, { s, width, node }: { s: number; width: number; node: string }): number {
  const column = index - s * width;
  if (column < 0 || column >= width)
    throw new Unliftable(node, "attention mixes rows of different tokens outside its core");
  return column;
}

function checkColumn(
  columns: Int32Array,
  slot: number,
  column: number,
  { fresh, node }: { fresh: boolean; node: string },
): void {
  if (fresh) columns[slot] = column;
  else if (columns[slot] !== column)
    throw new Unliftable(node, "attention takes different columns for different tokens");
}

/**
 * x·cos + rotate(x)·sin may come with either product first. The product that keeps elements in place is the one in
 * which head 0's columns ascend from its first element; swap where it came second.
 */
function ordered(found: Heads): Heads {
  const rotated = found.partners.findIndex((partner) => partner >= 0);
  if (rotated < 0) return found;
  const low = Math.min(
    ...found.columns.subarray(0, found.size),
    ...Array.from(found.partners.subarray(0, found.size)).filter((each) => each >= 0),
  );
  const inPlace = found.columns[rotated] === low + rotated || found.columns[rotated]! < found.partners[rotated]!;
  if (inPlace) return found;
  const swapped: Heads = {
    ...found,
    columns: found.columns.slice(),
    partners: found.partners.slice(),
    direct: found.direct.map((row) => row.slice()),
    crossed: found.crossed.map((row) => row.slice()),
  };
  found.partners.forEach((partner, slot) => {
    if (partner < 0) return;
    swapped.columns[slot] = partner;
    swapped.partners[slot] = found.columns[slot]!;
    found.direct.forEach((_, s) => {
      swapped.direct[s]![slot] = found.crossed[s]![slot]!;
      swapped.crossed[s]![slot] = found.direct[s]![slot]!;
    });
  });
  return swapped;
}

/** One factor common to every element of heads that do not rotate; for rotated heads, divided out by the rotation. */
export function uniformFactor(found: Heads, node: string): number {
  const value = found.direct[0]![0]!;
  const tolerance = Math.abs(value) * 1e-5;
  if (found.direct.some((row) => row.some((each) => Math.abs(each - value) > tolerance)))
    throw new Unliftable(node, "attention scales elements differently");
  return value;
}
