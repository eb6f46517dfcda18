import { describe, expect, it } from "vitest";

import type { Heads } from "../../src/canonical/heads.ts";
import { agreesFar, inverseFrequencies, recogniseRotary } from "../../src/canonical/rotary.ts";
import { known, Unliftable, type Known } from "../../src/canonical/value.ts";
import { computedWeight } from "../../src/canonical/weights.ts";

interface Rotation {
  size: number;
  dim: number;
  frequencies: ArrayLike<number>;
  interleaved?: boolean;
  /** Of what rotates, and of what passes. */
  scale?: number;
  pass?: number;
  past?: number;
}

const HEADS = 2;
const TOKENS = 3;

/** Two heads as a graph would rotate them at positions past, past + 1, past + 2. */
function rotated({ size, dim, frequencies, interleaved = false, scale = 1, pass = 1, past = 5 }: Rotation): Heads {
  const half = dim / 2;
  const partnerOf = (d: number): number => (interleaved ? d ^ 1 : (d + half) % dim);
  const element = (slot: number, position: number) => {
    const d = slot % size;
    const angle = Math.fround(position * frequencies[interleaved ? d >> 1 : d % half]!);
    const upper = interleaved ? d % 2 === 1 : d >= half;
    if (d >= dim) return { direct: pass, crossed: 0 };
    return {
      direct: scale * Math.fround(Math.cos(angle)),
      crossed: (upper ? scale : -scale) * Math.fround(Math.sin(angle)),
    };
  };
  const slots = Array.from({ length: HEADS * size }, (_, slot) => slot);
  const rows = (which: "direct" | "crossed"): Float64Array[] =>
    Array.from({ length: TOKENS }, (_, s) => Float64Array.from(slots, (slot) => element(slot, past + s)[which]));
  return {
    source: 0,
    heads: HEADS,
    size,
    columns: Int32Array.from(slots),
    partners: Int32Array.from(slots, (slot) =>
      slot % size < dim ? slot - (slot % size) + partnerOf(slot % size) : -1,
    ),
    direct: rows("direct"),
    crossed: rows("crossed"),
    factors: [],
  };
}

const recognise = (heads: Heads, vectors: Float32Array[] = []) =>
  recogniseRotary(heads, { past: 5, vectors, node: "attention" });

describe("rotation recognised from what a graph multiplies by", () => {
  it.each([10_000, 500_000, 1_000_000, 10_000_000, 50_000, 8_000])("base %i", (theta) => {
    for (const dim of [8, 64, 128]) {
      const { rotary, factor } = recognise(rotated({ size: dim, dim, frequencies: inverseFrequencies(theta, dim) }));
      expect(rotary).toEqual({ dim, interleaved: false, scale: 1, frequencies: { kind: "theta", theta } });
      expect(factor).toBeCloseTo(1, 6);
    }
  });

  it("interleaved pairs", () => {
    const heads = rotated({ size: 16, dim: 16, frequencies: inverseFrequencies(10_000, 16), interleaved: true });
    expect(recognise(heads).rotary).toMatchObject({ dim: 16, interleaved: true, frequencies: { theta: 10_000 } });
  });

  it("the first elements of each head only", () => {
    const heads = rotated({ size: 32, dim: 8, frequencies: inverseFrequencies(10_000, 8) });
    expect(recognise(heads).rotary).toMatchObject({ dim: 8, scale: 1, frequencies: { theta: 10_000 } });
  });

  it("a magnitude: of all elements a factor, of the turned ones alone a scale", () => {
    const frequencies = inverseFrequencies(10_000, 8);
    const whole = recognise(rotated({ size: 8, dim: 8, frequencies, scale: 1.25 }));
    expect(whole.rotary.scale).toBe(1);
    expect(whole.factor).toBeCloseTo(1.25, 6);
    const partial = recognise(rotated({ size: 16, dim: 8, frequencies, scale: 1.5, pass: 0.5 }));
    expect(partial).toMatchObject({ rotary: { dim: 8 }, factor: 0.5 });
    expect(partial.rotary.scale).toBeCloseTo(3, 5);
  });

  it("frequencies that stand in the file as a vector (llama3 scaling)", () => {
    const values = inverseFrequencies(500_000, 16).map((each, i) => (i > 4 ? each / 8 : i > 2 ? each / 3 : each));
    const heads = rotated({ size: 16, dim: 16, frequencies: values });
    const { rotary } = recognise(heads, [new Float32Array(8), Float32Array.from(values)]);
    expect(rotary.frequencies).toEqual({ kind: "list", values: Array.from(values) });
    expect(() => recognise(heads)).toThrow(Unliftable);
  });

  it.each<[string, (heads: Heads) => void]>([
    ["another angle in the second head", (heads) => (heads.direct[1]![9] = 0.1)],
    [
      "another magnitude at one token",
      (heads) =>
        heads.direct[2]!.forEach((_, slot) => ((heads.direct[2]![slot]! *= 2), (heads.crossed[2]![slot]! *= 2))),
    ],
    [
      "halves of a pair turned in one direction",
      (heads) => heads.crossed.forEach((row) => row.forEach((each, slot) => (row[slot] = Math.abs(each)))),
    ],
    [
      "partners across heads",
      (heads) => heads.partners.forEach((partner, slot) => (heads.partners[slot] = (partner + 8) % 16)),
    ],
    ["the last elements of a head", (heads) => heads.partners.fill(-1, 0, 2)],
  ])("refuses %s", (_, spoil) => {
    const heads = rotated({ size: 8, dim: 8, frequencies: inverseFrequencies(10_000, 8) });
    spoil(heads);
    expect(() => recognise(heads)).toThrow(Unliftable);
  });

  it("refuses positions that are not counted from 0", () => {
    const heads = rotated({ size: 8, dim: 8, frequencies: inverseFrequencies(10_000, 8), past: 6 });
    expect(() => recognise(heads)).toThrow(/frequencies/);
  });
});

describe("angles far on", () => {
  const rotary = { dim: 8, interleaved: false, scale: 1, frequencies: { kind: "theta" as const, theta: 10_000 } };
  const values = inverseFrequencies(10_000, 8);
  const rows = (position: number, curve: (angle: number, column: number) => number, width = 8) => ({
    position,
    factor: known(
      [1, 2, width],
      "float",
      Float64Array.from({ length: 2 * width }, (_, i) =>
        Math.fround(curve(Math.fround((position + Math.floor(i / width)) * values[i % 4]!), i % width)),
      ),
    ),
  });

  it("agree where both are cosines, or sines with any fixed signs and magnitude", () => {
    const signed = (angle: number, column: number): number => (column < 4 ? -1.5 : 1.5) * Math.sin(angle);
    for (const curve of [Math.cos, Math.sin, signed]) {
      for (const width of [4, 8]) expect(agreesFar(rotary, rows(5, curve, width), rows(8000, curve, width))).toBe(true);
    }
  });

  it.each<[string, (angle: number, column: number) => number]>([
    ["stretched", (angle) => Math.cos(angle / 2)],
    ["turned round", (angle) => -Math.cos(angle)],
    ["exchanged", Math.sin],
    ["larger", (angle) => 1.1 * Math.cos(angle)],
    ["other in one column", (angle, column) => Math.cos(angle) + (column === 3 ? 0.01 : 0)],
  ])("do not agree where they are %s", (_, curve) => {
    expect(agreesFar(rotary, rows(5, Math.cos), rows(8000, curve))).toBe(false);
  });

  it("of a table agree only as rows of the same table", () => {
    const tables = [1, 2].map((seed) => computedWeight(new Float32Array(32).fill(seed), [4, 8], "float32"));
    const of = (table: number, offset = 0): { position: number; factor: Known } => {
      const { factor } = rows(5 + table + offset, Math.cos);
      return { position: 5, factor: { ...factor, table: { weight: tables[table]!, offset } } };
    };
    const placeholder = { name: "", digest: "sha256:" as const, dtype: "float32" as const, dims: [], bytes: 0 };
    const spec = { ...rotary, frequencies: { kind: "table" as const, cos: placeholder, sin: placeholder } };
    expect(agreesFar(spec, of(0), of(0))).toBe(true);
    expect(agreesFar(spec, of(0), of(1))).toBe(false);
    expect(agreesFar(spec, of(0), of(0, 1))).toBe(false);
    expect(agreesFar(spec, of(0), rows(9, Math.cos))).toBe(false);
  });
});
