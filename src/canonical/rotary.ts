import type { RotarySpec } from "./specifications.ts";
import type { Heads } from "./heads.ts";
import { Unliftable, type Known } from "./value.ts";
import { takeFromWeight, type Weight } from "./weights.ts";

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
export function recogniseRotary(heads: Heads, options: { past: number; vectors: Float32Array[]; node: string }): RotaryFinding {
  const { node, past } = options;
  const pairs = readPairs(heads, node);
  const { dim, interleaved, angles, magnitude, passFactor } = pairs;
  const estimate = Array.from({ length: dim / 2 }, (_, i) => wrap(angles[1]![i]! - angles[0]![i]!));
  const spec = { dim, interleaved, scale: passFactor === null ? 1 : magnitude / passFactor };
  const factor = passFactor ?? magnitude;
  const fits = (values: ArrayLike<number>): boolean =>
    angles.every((row, s) => row.every((angle, i) => Math.abs(wrap(angle - Math.fround((past + s) * values[i]!))) < tolerance(past + s)));
  for (const theta of thetaCandidates(estimate, dim)) {
    if (fits(inverseFrequencies(theta, dim))) return { rotary: { ...spec, frequencies: { kind: "theta", theta } }, tables: null, factor };
  }
  const exact = options.vectors.find((vector) => vector.length === dim / 2 && fits(vector));
  if (exact !== undefined) return { rotary: { ...spec, frequencies: { kind: "list", values: Array.from(exact) } }, tables: null, factor };
  const tables = tablesOf(heads.factors, dim);
  if (tables === null) throw new Unliftable(node, "rotary embedding whose frequencies are neither powers of one base, nor a constant, nor a table");
  const placeholder = { name: "", digest: "sha256:" as const, dtype: "float32" as const, dims: [], bytes: 0 };
  return { rotary: { dim, interleaved, scale: 1, frequencies: { kind: "table", cos: placeholder, sin: placeholder } }, tables, factor: passFactor ?? 1 };
}

/** float32 θ^(−2i/dim), as torch computes it. */
export function inverseFrequencies(theta: number, dim: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / dim)));
}

/**
 * Whether the numbers a graph multiplies by at far positions are the specification's cosines or sines there. A model
 * that changes its angles with length (dynamic scaling) agrees at short positions only, and must not pass.
 */
export function agreesFar(rotary: RotarySpec, factor: Known, past: number): boolean {
  const { dim } = rotary;
  if (rotary.frequencies.kind === "table") return true;
  const values = rotary.frequencies.kind === "theta" ? inverseFrequencies(rotary.frequencies.theta, dim) : Float32Array.from(rotary.frequencies.values);
  const width = factor.dims.at(-1)!;
  const data = factor.read();
  const rows = data.length / width;
  const is = (function_: (x: number) => number): boolean =>
    Array.from({ length: rows }, (_, s) => s).every((s) =>
      Array.from({ length: width }, (_, d) => d).every((d) => {
        const pair = width === dim / 2 ? d : rotary.interleaved ? d >> 1 : d % (dim / 2);
        const expected = function_(Math.fround((past + s) * values[pair]!)) * rotary.scale;
        return Math.abs(Math.abs(data[s * width + d]!) - Math.abs(expected)) < 2 * tolerance(past + s);
      }),
    );
  return rows >= 1 && (is(Math.cos) || is(Math.sin));
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
  if (dim % 2 !== 0 || rotated.slice(0, dim).includes(false)) throw new Unliftable(node, "rotary embedding of other than the first elements of each head");
  const interleaved = partners[0] === columns[1] && dim > 2;
  const partnerOf = (d: number): number => (interleaved ? d ^ 1 : (d + dim / 2) % dim);
  const first = (i: number): number => (interleaved ? 2 * i : i);
  const magnitude = Math.hypot(heads.direct[0]![0]!, heads.crossed[0]![0]!);
  for (let head = 0; head < heads.heads; head++) {
    for (let d = 0; d < dim; d++) {
      const slot = head * size + d;
      if (partners[slot] !== columns[head * size + partnerOf(d)]) throw new Unliftable(node, "rotary embedding pairs elements in an unknown way");
      for (let s = 0; s < heads.direct.length; s++) {
        const sign = d === first(interleaved ? d >> 1 : d % (dim / 2)) ? -1 : 1;
        const reference = interleaved ? d - (d % 2) : d % (dim / 2);
        const close = (a: number, b: number): boolean => Math.abs(a - b) < magnitude * 1e-5;
        if (!close(heads.direct[s]![slot]!, heads.direct[s]![reference]!) || !close(sign * heads.crossed[s]![slot]!, -heads.crossed[s]![reference]!)) {
          throw new Unliftable(node, "rotary embedding rotates the heads, or the two halves of a pair, by different angles");
        }
      }
    }
  }
  const angles = heads.direct.map((row, s) => Array.from({ length: dim / 2 }, (_, i) => Math.atan2(-heads.crossed[s]![first(i)]!, row[first(i)]!)));
  const passed = dim < size ? heads.direct[0]![dim]! : null;
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

/** Rows of tables picked by position; at a small position the slowest pair's cosine is near 1 and its sine near 0. */
function tablesOf(factors: Known[], dim: number): { cos: Weight; sin: Weight } | null {
  const tables = factors.filter((factor) => factor.table !== null && factor.table.offset === 0);
  const isCosine = (factor: Known): boolean => factor.read()[dim / 2 - 1]! > 0.5;
  const cos = tables.find(isCosine)?.table?.weight;
  const sin = tables.find((factor) => !isCosine(factor))?.table?.weight;
  if (cos === undefined || sin === undefined) return null;
  const half = Array.from({ length: dim / 2 }, (_, i) => i);
  const narrow = (weight: Weight): Weight => (weight.dims[1] === dim / 2 ? weight : takeFromWeight(weight, "last", half));
  return { cos: narrow(cos), sin: narrow(sin) };
}

function wrap(angle: number): number {
  return angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
}

export function hasRotation(heads: Heads): boolean {
  return heads.partners.some((partner) => partner >= 0);
}
