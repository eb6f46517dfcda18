import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { digestBytes } from "../../src/fingerprint/digest.ts";
import { ElementStream, toFloats } from "../../src/fingerprint/element-stream.ts";
import { estimateCosine, nearestSketches } from "../../src/fingerprint/nearest-sketches.ts";
import { sketchBlock, TensorSketch } from "../../src/fingerprint/sketch.ts";
import { gaussians } from "./gaussians.ts";

const COUNT = 1 << 16;

describe("sketchBlock", () => {
  it("is the same on every machine and every day", () => {
    const sketch = sketchOf(Float32Array.from({ length: 5000 }, (_, i) => ((i * 7919) % 1009) - 504));
    expect(digestBytes(new Uint8Array(sketch.buffer))).toMatchInlineSnapshot(
      `"sha256:c452bb8a14532fdb7b219504a0ee9aa36da067a96ebe73d922d11b4b3cc640fe"`,
    );
  });

  it("does not depend on how the bytes come", () => {
    const values = gaussians(10_000, 1);
    const whole = sketchOf(values);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 8 }), (lengths) => {
        const bytes = new Uint8Array(values.buffer);
        const elements = new ElementStream("float32");
        const sketch = new TensorSketch(0);
        let at = 0;
        for (const length of [...lengths, bytes.length]) {
          for (const piece of elements.pieces(bytes.subarray(at, at + length))) sketch.add(piece);
          at += length;
        }
        expect(sketchBlock([sketch.finish()])).toEqual(whole);
      }),
    );
  });

  it("estimates the cosine", () => {
    const base = gaussians(COUNT, 1);
    const noise = gaussians(COUNT, 2);
    for (const relative of [0.1, 0.3, 1, 3]) {
      const tuned = base.map((value, i) => value + relative * noise[i]!);
      const cosine = 1 / Math.hypot(1, relative);
      expect(estimateCosine(distance(sketchOf(base), sketchOf(tuned)))).toBeCloseTo(cosine, 0.7);
    }
    expect(distance(sketchOf(base), sketchOf(noise))).toBeGreaterThan(96);
    expect(distance(sketchOf(base), sketchOf(base.map((value) => -value)))).toBe(256);
  });

  it("grows with the perturbation", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), (seed) => {
        const base = gaussians(COUNT / 4, seed);
        const noise = gaussians(COUNT / 4, seed + 5000);
        const distances = [0, 0.01, 0.15, 0.6, 3].map((relative) =>
          distance(sketchOf(base), sketchOf(base.map((value, i) => value + relative * noise[i]!))),
        );
        expect(distances[0]).toBe(0);
        expect(distances[1]).toBeLessThan(8);
        expect(distances).toEqual(distances.toSorted((a, b) => a - b));
      }),
      { numRuns: 20 },
    );
  });

  it("is not ruled by one tensor of huge values", () => {
    const outlier = (seed: number) => gaussians(512, seed).map((value) => value * 1e6);
    const one = sketchOf(outlier(1), gaussians(COUNT, 2));
    expect(distance(one, sketchOf(outlier(3), gaussians(COUNT, 2)))).toBeLessThan(32);
    expect(distance(one, sketchOf(outlier(1), gaussians(COUNT, 4)))).toBeGreaterThan(96);
  });

  it("tells tensors that are each other's negative from zeros", () => {
    const values = gaussians(COUNT, 1);
    const negative = values.map((value) => -value);
    expect(distance(sketchOf(values, negative), sketchOf(negative, values))).toBe(256);
    expect(sketchOf(new Float32Array(100))).toEqual(new Uint32Array(8));
  });

  it("survives infinities and NaN", () => {
    const values = gaussians(COUNT, 1);
    const spoilt = values.slice();
    spoilt[100] = Number.NaN;
    spoilt[5000] = Number.POSITIVE_INFINITY;
    expect(distance(sketchOf(values), sketchOf(spoilt))).toBeLessThan(16);
  });
});

describe("toFloats", () => {
  it("gives the values of every 16-bit code", () => {
    const codes = Uint16Array.from({ length: 0x10000 }, (_, code) => code);
    const bfloats = toFloats(new Uint8Array(codes.buffer), "bfloat16");
    expect([bfloats[0x3f80], bfloats[0xc000], bfloats[0x7f80]]).toEqual([1, -2, Infinity]);
    const halves = toFloats(new Uint8Array(codes.buffer), "float16");
    expect([halves[0x3c00], halves[0xc000], halves[0x0001]]).toEqual([1, -2, 2 ** -24]);
  });

  it("centres unsigned codes", () => {
    expect([...toFloats(Uint8Array.of(0, 255), "uint8")]).toEqual([-127.5, 127.5]);
    expect([...toFloats(Uint8Array.of(0xf0), "uint4")]).toEqual([-7.5, 7.5]);
  });
});

describe("nearestSketches", () => {
  it("finds what a look at every bit finds", () => {
    const sketch = fc.uint32Array({ minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(fc.array(sketch, { maxLength: 40 }), sketch, fc.integer({ min: 0, max: 10 }), (all, query, count) => {
        const packed = Uint32Array.from(all.flatMap((one) => [...one]));
        const slow = all.map((one, place) => ({ place, distance: bitsDiffering(one, query) }));
        const expected = slow.toSorted((a, b) => a.distance - b.distance || a.place - b.place).slice(0, count);
        expect(nearestSketches(packed, query, count)).toEqual(expected);
      }),
    );
  });
});

function sketchOf(...tensors: Float32Array[]): Uint32Array {
  return sketchBlock(
    tensors.map((values, ordinal) => {
      const sketch = new TensorSketch(ordinal);
      sketch.add(values);
      return sketch.finish();
    }),
  );
}

function distance(a: Uint32Array, b: Uint32Array): number {
  return nearestSketches(a, b, 1)[0]!.distance;
}

function bitsDiffering(a: Uint32Array, b: Uint32Array): number {
  return a.reduce((sum, word, at) => sum + (((word ^ b[at]!) >>> 0).toString(2).match(/1/g)?.length ?? 0), 0);
}
