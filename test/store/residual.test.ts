import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { digestBytes } from "../../src/fingerprint/digest.ts";
import type { ElementType } from "../../src/onnx/model.ts";
import { decodeDelta, encodeDelta } from "../../src/store/integer-delta.ts";
import { decodeResidual, encodeResidual, readResidualHeader, residualBytes } from "../../src/store/residual.ts";
import { findZstd } from "../../src/store/zstd.ts";
import { gaussians } from "../fingerprint/gaussians.ts";

const DTYPES: ElementType[] = ["float32", "float16", "bfloat16", "int8", "uint8", "int4", "int16", "int64", "float64"];
const zstd = findZstd()!;

/** Two byte strings of one length, often nearly equal; any bit pattern, NaN payloads and all, and any odd length. */
const bytePairs = fc
  .tuple(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 200, maxLength: 200 }), fc.boolean())
  .map(([base, noise, near]) => ({
    base,
    exact: base.map((byte, at) => (near ? byte ^ (noise[at]! & 1) : noise[at]!)),
  }));

describe("integer delta", () => {
  it.each(DTYPES)("gives every bit of %s back", (dtype) => {
    fc.assert(
      fc.property(bytePairs, ({ base, exact }) => {
        expect(decodeDelta(base, encodeDelta(base, exact, dtype), dtype)).toEqual(exact);
      }),
    );
  });

  it("gives every pair of special values back", () => {
    const codes = [
      0, 1, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001, 0x80000000, 0xffffffff, 0x7fffffff,
    ];
    const pairs = codes.flatMap((a) => codes.map((b) => [a, b] as const));
    const base = new Uint8Array(Uint32Array.from(pairs, ([a]) => a).buffer);
    const exact = new Uint8Array(Uint32Array.from(pairs, ([, b]) => b).buffer);
    for (const dtype of DTYPES) expect(decodeDelta(base, encodeDelta(base, exact, dtype), dtype)).toEqual(exact);
  });

  it("is small where values are near, across zero too", () => {
    const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
    const planes = encodeDelta(floats(1, -1, 0), floats(1 + 2 ** -23, -1 - 2 ** -23, -0), "float32");
    expect(planes.slice(0, 4).map((plane) => [...plane])).toEqual([
      [2, 1, 1],
      [0, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });
});

describe("residual", () => {
  it("gives the exact bytes back over several pieces, and is smaller", async () => {
    const base = gaussians((4 << 18) + 77, 1);
    const noise = gaussians(base.length, 2);
    const exact = bytesOf(base.map((value, i) => value + 1e-3 * noise[i]!));
    const residual = await encode({ base: bytesOf(base), exact, dtype: "float32" });
    expect(residual.length).toBe(await residualBytes({ base: bytesOf(base), exact, dtype: "float32" }, zstd));
    expect(exact.length / residual.length).toBeGreaterThan(1.6);
    expect(header(residual)).toEqual({
      exact: digestBytes(exact),
      base: digestBytes(bytesOf(base)),
      bytes: exact.length,
      dtype: "float32",
    });
    expect(Buffer.compare(await decode(bytesOf(base), residual), exact)).toBe(0);
  });

  it.each(DTYPES)("holds for any bytes of %s", async (dtype) => {
    await fc.assert(
      fc.asyncProperty(bytePairs, async ({ base, exact }) => {
        const residual = await encode({ base, exact, dtype });
        expect(await decode(base, residual)).toEqual(exact);
      }),
      { numRuns: 30 },
    );
  });

  it("refuses another base, a cut and a changed byte", async () => {
    const base = bytesOf(gaussians(1000, 1));
    const exact = bytesOf(gaussians(1000, 2));
    const residual = await encode({ base, exact, dtype: "float32" });
    const changed = residual.slice();
    changed[residual.length - 600]! ^= 1;
    const notZstd = residual.slice();
    notZstd.fill(7, 93);
    notZstd.fill(1, 81, 82);
    await expect(decode(base, notZstd)).rejects.toMatchObject({ code: "blob_corrupt" });
    await expect(decode(bytesOf(gaussians(1000, 3)), residual)).rejects.toMatchObject({ code: "blob_corrupt" });
    await expect(decode(base.subarray(4), residual)).rejects.toMatchObject({ code: "blob_corrupt" });
    await expect(decode(base, residual.subarray(0, residual.length - 9))).rejects.toMatchObject({
      code: "blob_corrupt",
    });
    await expect(decode(base, residual.subarray(0, 20))).rejects.toMatchObject({ code: "blob_corrupt" });
    await expect(decode(base, changed)).rejects.toMatchObject({ code: "blob_corrupt" });
  });
});

const header = (residual: Uint8Array) => readResidualHeader(residual, digestBytes(residual));

async function decode(base: Uint8Array, residual: Uint8Array): Promise<Uint8Array> {
  return await decodeResidual({ base, residual, header: header(residual) }, zstd);
}

async function encode(pair: { base: Uint8Array; exact: Uint8Array; dtype: ElementType }): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeResidual(pair, zstd)) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
