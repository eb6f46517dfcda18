import * as fc from "fast-check";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { expect, test } from "vitest";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { bfloat16ToFloat, floatToHalf, halfToFloat, toNumbers } from "../../src/onnx/numbers.ts";
import { elementBits, tensorBytes } from "../../src/onnx/tensor-data.ts";
import { writeModel } from "../../src/onnx/write-model.ts";

test("every half that is a number comes back from its value", () => {
  const codes = Array.from({ length: 0x10000 }, (_, code) => code).filter((code) => !Number.isNaN(halfToFloat(code)));
  expect(codes).toHaveLength(0x10000 - 2 * 1023);
  expect(codes.map((code) => floatToHalf(halfToFloat(code)))).toEqual(codes);
  expect(halfToFloat(0x7e00)).toBeNaN();
  expect(floatToHalf(NaN)).toBe(0x7e00);
});

test("floats round to halves as in ONNX Runtime", async () => {
  const session = await InferenceSession.create(writeModel(castModel()));
  const ties = Array.from({ length: 4000 }, (_, index) => (1 + (2 * index + 1) / 2048) * 2 ** ((index % 40) - 24));
  const random = fc.sample(fc.float({ noNaN: true }), { numRuns: 4000, seed: 1 });
  const values = Float32Array.from([...ties, ...random, 65504, 65519.996, 65520, 1e-8, 2 ** -25, -0]);
  const { y } = await session.run({ x: new Tensor("float32", values, [values.length]) });
  await session.release();
  const halves = y!.data as Uint16Array;
  const codes = new Uint16Array(halves.buffer, halves.byteOffset, values.length);
  expect(Array.from(values, floatToHalf)).toEqual([...codes]);
});

test("small formats at their edges", () => {
  expect(bfloat16ToFloat(0x3f80)).toBe(1);
  expect(bfloat16ToFloat(0xff80)).toBe(-Infinity);
  expect([...toNumbers(Uint8Array.of(0x7e, 0x7f, 0x01, 0x80), "float8e4m3fn")]).toEqual([448, NaN, 2 ** -9, -0]);
  expect([...toNumbers(Uint8Array.of(0x7b, 0x7c, 0x01), "float8e5m2")]).toEqual([57344, Infinity, 2 ** -16]);
  expect([...toNumbers(Uint8Array.of(0x8f, 0x07), "int4", 3)]).toEqual([-1, -8, 7]);
});

test("64-bit integers become numbers or are refused", () => {
  const bytes = new Uint8Array(BigInt64Array.of(-1n, 2n ** 53n - 1n, 2n ** 63n - 1n, -(2n ** 63n)).buffer);
  const { MAX_SAFE_INTEGER: max, MIN_SAFE_INTEGER: min } = Number;
  expect([...toNumbers(bytes, "int64")]).toEqual([-1, max, max, min]);
  const beyond = new Uint8Array(BigInt64Array.of(2n ** 53n).buffer);
  expect(() => toNumbers(beyond, "int64")).toThrow(/9007199254740992/);
  expect(() => toNumbers(beyond, "uint64")).toThrow(/beyond 9007199254740991/);
});

test("an odd place in a buffer is no obstacle", () => {
  const bytes = new Uint8Array(9);
  new DataView(bytes.buffer).setFloat64(1, Math.PI, true);
  expect([...toNumbers(bytes.subarray(1), "float64")]).toEqual([Math.PI]);
});

test("sizes: 4-bit types take half a byte, rounded up; impossible dims are refused with value and limit", () => {
  expect(elementBits("int4")).toBe(4);
  expect(tensorBytes("int4", [3, 3])).toBe(5);
  expect(tensorBytes("float32", [])).toBe(4);
  expect(tensorBytes("float32", [0, 7])).toBe(0);
  expect(() => tensorBytes("float32", [2 ** 39, 2 ** 39])).toThrow(/over the limit 9007199254740991 \(elements\)/);
  expect(() =>
    tensorBytes(
      "float32",
      Array.from({ length: 65 }, () => 1),
    ),
  ).toThrow(/65 is over the limit 64 \(rank\)/);
  expect(() => tensorBytes("float32", [-1])).toThrow(/-1 is not a size/);
});

function castModel(): OnnxModel {
  const cast = { name: "", opType: "Cast", domain: "", inputs: ["x"], outputs: ["y"] };
  return {
    irVersion: 10,
    producer: "",
    opsets: new Map([["", 21]]),
    functions: new Map(),
    graph: {
      name: "cast",
      nodes: [{ ...cast, attributes: new Map([["to", { kind: "int", value: 10 }]]) }],
      initializers: new Map(),
      inputs: [{ name: "x", dtype: "float32", dims: ["n"] }],
      outputs: [{ name: "y", dtype: "float16", dims: ["n"] }],
    },
  };
}
