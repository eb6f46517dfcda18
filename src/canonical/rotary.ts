import type { RotarySpec } from "./specifications.ts";
import type { Heads } from "./heads.ts";
import { Unliftable, type Known } from "./value.ts";
import { describeWeight, takeFromWeight, type Weight } from "./weights.ts";

export interface RotaryFinding {
  rotary: RotarySpec;
  /** For `table` frequencies: the tables in the file, [rows, dim/2]. */
  tables: { cos: Weight; sin: Weight } | null;
  /** What the rotation multiplies every element by, besides rotating. */
  factor: number;
}

/** float32 cosines and sines differ from exact ones by a rounding of the angle: position × 2⁻²⁴ and a little more. */
const tolerance = (position: number): number => 4e-6 + position * 1.3e-7;

/**
 * Recognises rotary position embedding from what it multiplies by at positions past, past+1, …: which elements pair
 * up, and inverse frequencies that reproduce the angles — first θ^(−2i/dim), then a vector of the file, then tables.
 */
export function recogniseRotary(
  heads: Heads,
  options: { past: number; vectors: Float32Array[]; node: string },
): RotaryFinding {
  const { node, past } = options;
  const pairs = readPairs(heads, node);
  const { dim, interleaved, angles, magnitude, passFactor } = pairs;
  const [here, next] = angles as [number[], number[] | undefined];
  // From one token alone only the slower pairs are right, which have not turned round yet; they are the ones looked at.
  const estimate = here.map((angle, i) => (next === undefined ? angle / Math.max(1, past) : wrap(next[i]! - angle)));
  const spec = { dim, interleaved, scale: passFactor === null ? 1 : magnitude / passFactor };
  const factor = passFactor ?? magnitude;
  const fits = (values: ArrayLike<number>): boolean =>
    angles.every((row, s) =>
      row.every((angle, i) => Math.abs(wrap(angle - Math.fround((past + s) * values[i]!))) < tolerance(past + s)),
    );
  const even = magnitudes(heads, pairs).every((each) => Math.abs(each - magnitude) < magnitude * 1e-5);
  for (const theta of even ? thetaCandidates(estimate, dim) : []) {
    if (fits(inverseFrequencies(theta, dim)))
      return { rotary: { ...spec, frequencies: { kind: "theta", theta } }, tables: null, factor };
  }
  const exact = options.vectors.find((vector) => even && vector.length === dim / 2 && fits(vector));
  if (exact !== undefined)
    return { rotary: { ...spec, frequencies: { kind: "list", values: Array.from(exact) } }, tables: null, factor };
  const tables = tablesOf(heads, pairs);
  if (tables === null)
    throw new Unliftable(
      node,
      "rotary embedding whose frequencies are neither powers of one base, nor a constant, nor a table",
    );
  const placeholder = { name: "", digest: "sha256:" as const, dtype: "float32" as const, dims: [], bytes: 0 };
  return {
    rotary: { dim, interleaved, scale: 1, frequencies: { kind: "table", cos: placeholder, sin: placeholder } },
    tables: { cos: tables.cos, sin: tables.sin },
    factor: tables.factor,
  };
}

/** float32 θ^(−2i/dim), as torch computes it. */
export function inverseFrequencies(theta: number, dim: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / dim)));
}

/**
 * Whether a factor is the same function of the position at far positions as near the start: a row of the same table, the
 * same numbers, or cosines or sines of the specification's angles, each element with the sign it has near. A model that
 * changes its angles with length (dynamic scaling) agrees at short positions only, and must not pass.
 */
export function agreesFar(rotary: RotarySpec, near: FactorAt, far: FactorAt): boolean {
  const same =
    near.factor.dims.join() === far.factor.dims.join() &&
    near.factor.read().every((each, i) => each === far.factor.read()[i]);
  if (same) return true;
  if (rotary.frequencies.kind === "table") {
    const [a, b] = [near.factor.table, far.factor.table];
    return a !== null && b !== null && a.offset === b.offset && describeWeight(a.weight) === describeWeight(b.weight);
  }
  const frequencies =
    rotary.frequencies.kind === "theta"
      ? inverseFrequencies(rotary.frequencies.theta, rotary.dim)
      : Float32Array.from(rotary.frequencies.values);
  return [Math.cos, Math.sin].some((curve) => followsCurve({ rotary, frequencies, curve }, near, far));
}

export interface FactorAt {
  factor: Known;
  /** Of the factor's first row. */
  position: number;
}

/** Whether every element is the curve of its pair's angle times one common number, up to signs that do not change. */
function followsCurve(
  { rotary, frequencies, curve }: { rotary: RotarySpec; frequencies: Float32Array; curve: (x: number) => number },
  near: FactorAt,
  far: FactorAt,
): boolean {
  const width = near.factor.dims.at(-1)!;
  const half = rotary.dim / 2;
  if (width !== far.factor.dims.at(-1)! || (width !== half && width !== rotary.dim)) return false;
  const rows = ({ factor, position }: FactorAt, column: number): { value: number; at: number }[] => {
    const data = factor.read();
    const pair = width === half ? column : rotary.interleaved ? column >> 1 : column % half;
    return Array.from({ length: data.length / width }, (_, s) => ({
      value: data[s * width + column]!,
      at: curve(Math.fround((position + s) * frequencies[pair]!)),
    }));
  };
  const amplitudes = Array.from({ length: width }, (_, column) => {
    const points = rows(near, column);
    const squares = points.reduce((sum, { at }) => sum + at * at, 0);
    // The sine of a pair that never turns (Gemma 4) says nothing of the amplitude.
    return squares === 0 ? null : points.reduce((sum, { value, at }) => sum + value * at, 0) / squares;
  });
  const common = Math.abs(amplitudes.find((amplitude) => amplitude !== null) ?? 0);
  return amplitudes.every((amplitude, column) => {
    if (amplitude !== null && !(Math.abs(Math.abs(amplitude) - common) < common * 1e-3)) return false;
    const fits = (where: FactorAt): boolean =>
      rows(where, column).every(
        ({ value, at }, s) =>
          Math.abs(value - Math.sign(amplitude ?? 1) * common * at) < 2 * common * tolerance(where.position + s),
      );
    return fits(near) && fits(far);
  });
}

interface Pairs {
  dim: number;
  interleaved: boolean;
  /** [token][pair], radians. */
  angles: number[][];
  magnitude: number;
  /** The factor on elements that do not rotate; null when all do. */
  passFactor: number | null;
}

function readPairs(heads: Heads, node: string): Pairs {
  const { size, columns, partners } = heads;
  const rotated = Array.from({ length: size }, (_, d) => partners[d]! >= 0);
  const dim = rotated.filter(Boolean).length;
  if (dim % 2 !== 0 || rotated.slice(0, dim).includes(false))
    throw new Unliftable(node, "rotary embedding of other than the first elements of each head");
  const interleaved = partners[0] === columns[1] && dim > 2;
  const partnerOf = (d: number): number => (interleaved ? d ^ 1 : (d + dim / 2) % dim);
  const first = (i: number): number => (interleaved ? 2 * i : i);
  const magnitude = Math.hypot(heads.direct[0]![0]!, heads.crossed[0]![0]!);
  for (let head = 0; head < heads.heads; head++) {
    for (let d = 0; d < dim; d++) {
      const slot = head * size + d;
      if (partners[slot] !== columns[head * size + partnerOf(d)])
        throw new Unliftable(node, "rotary embedding pairs elements in an unknown way");
      for (let s = 0; s < heads.direct.length; s++) {
        const sign = d === first(interleaved ? d >> 1 : d % (dim / 2)) ? -1 : 1;
        const reference = interleaved ? d - (d % 2) : d % (dim / 2);
        const close = (a: number, b: number): boolean => Math.abs(a - b) < magnitude * 1e-5;
        if (
          !close(heads.direct[s]![slot]!, heads.direct[s]![reference]!) ||
          !close(sign * heads.crossed[s]![slot]!, -heads.crossed[s]![reference]!)
        ) {
          throw new Unliftable(
            node,
            "rotary embedding rotates the heads, or the two halves of a pair, by different angles",
          );
        }
      }
    }
  }
  const angles = heads.direct.map((row, s) =>
    Array.from({ length: dim / 2 }, (_, i) => Math.atan2(-heads.crossed[s]![first(i)]!, row[first(i)]!)),
  );
  const passed = dim < size ? heads.direct[0]![dim]! : null;
  const passes = (value: number, slot: number): boolean =>
    slot % size < dim || Math.abs(value - passed!) <= 1e-5 * Math.abs(passed!);
  if (!heads.direct.every((row) => row.every(passes)))
    throw new Unliftable(node, "attention scales the elements that do not rotate differently");
  return { dim, interleaved, angles, magnitude: closeTo(magnitude, passed ?? magnitude), passFactor: passed };
}

function closeTo(value: number, target: number): number {
  return Math.abs(value - target) < 1e-5 * Math.abs(target) ? target : value;
}

/** Angles between tokens at distance 1 are the inverse frequencies; the base follows from any of them. */
function* thetaCandidates(estimate: number[], dim: number): Generator<number> {
  const half = dim / 2;
  if (half === 1) {
    yield 10_000;
    return;
  }
  for (const i of [Math.max(1, Math.floor(half / 4)), Math.max(1, Math.floor(half / 2)), half - 1]) {
    if (!(estimate[i]! > 0)) continue;
    const theta = estimate[i]! ** (-half / i);
    for (const digits of [1, 2, 3, 4, 5]) yield Number(theta.toPrecision(digits));
  }
}

/**
 * Rows of tables picked by position; at a small position the slowest pair's cosine is near 1 and its sine near 0. What
 * the graph multiplies by must be those rows times one factor.
 */
function tablesOf(
  heads: Heads,
  { dim, interleaved, magnitude, passFactor }: Pairs,
): { cos: Weight; sin: Weight; factor: number } | null {
  const tables = heads.factors.filter((factor) => factor.table !== null && factor.table.offset === 0);
  const isCosine = (factor: Known): boolean => factor.read()[dim / 2 - 1]! > 0.5;
  const cos = tables.find(isCosine);
  const sin = tables.find((factor) => !isCosine(factor));
  if (cos === undefined || sin === undefined) return null;
  const rows = [cos, sin].map((factor) => ({ data: factor.read(), width: factor.dims.at(-1)! })) as [Rows, Rows];
  const factor = passFactor ?? magnitude / Math.hypot(rows[0].data[0]!, rows[1].data[0]!);
  const is = (value: number, { data, width }: Rows, at: { s: number; i: number }): boolean =>
    Math.abs(value - factor * data[at.s * width + at.i]!) < 1e-5 * Math.abs(factor);
  const half = Array.from({ length: dim / 2 }, (_, i) => i);
  const fits = heads.direct.every((row, s) =>
    half.every((i) => {
      const element = interleaved ? 2 * i : i;
      return is(row[element]!, rows[0], { s, i }) && is(-heads.crossed[s]![element]!, rows[1], { s, i });
    }),
  );
  if (!fits) return null;
  const narrow = (weight: Weight): Weight =>
    weight.dims[1] === dim / 2 ? weight : takeFromWeight(weight, "last", half);
  return { cos: narrow(cos.table!.weight), sin: narrow(sin.table!.weight), factor };
}

interface Rows {
  data: Float64Array;
  width: number;
}

/** What the rotation multiplies lengths by, for every token and pair. */
function magnitudes({ direct, crossed }: Heads, { dim, interleaved }: Pairs): number[] {
  return direct.flatMap((row, s) =>
    Array.from({ length: dim / 2 }, (_, i) =>
      Math.hypot(row[interleaved ? 2 * i : i]!, crossed[s]![interleaved ? 2 * i : i]!),
    ),
  );
}

function wrap(angle: number): number {
  return angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
}

export function hasRotation(heads: Heads): boolean {
  return heads.partners.some((partner) => partner >= 0);
}
