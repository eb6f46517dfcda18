import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, expect, it } from "vitest";

import { weightBytes } from "../../src/canonical/weight-bytes.ts";
import {
  describeWeight,
  reshapeWeight,
  takeFromWeight,
  transposeWeight,
  wholeWeight,
  type Weight,
} from "../../src/canonical/weights.ts";
import type { ElementType } from "../../src/onnx/model.ts";
import { closeFiles } from "../../src/onnx/tensor-data.ts";
import { weightBytesOf } from "../blocks/row-interpreter.ts";

const folder = mkdtempSync(join(tmpdir(), "blockllm-weights-"));
afterAll(() => {
  closeFiles();
  rmSync(folder, { recursive: true });
});

/** A matrix as plain rows, to do the same to. */
type Matrix = number[][];

type Step = { kind: "transpose" } | { kind: "first" | "last"; picks: number[] };

const steps = fc.array(
  fc.oneof(
    fc.constant<Step>({ kind: "transpose" }),
    fc.record({
      kind: fc.constantFrom("first" as const, "last" as const),
      picks: fc.array(fc.nat(99), { minLength: 1, maxLength: 7 }),
    }),
  ),
  { maxLength: 4 },
);

const BYTES: Partial<Record<ElementType, number>> = { float32: 4, float16: 2, uint8: 1, int64: 8 };

it("views, picks and transpositions give the bytes that doing it element by element gives", async () => {
  const cases = fc.tuple(
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 6 }),
    fc.constantFrom<ElementType>("float32", "float16", "uint8", "int64"),
    steps,
    fc.boolean(),
  );
  let picked = 0;
  await fc.assert(
    fc.asyncProperty(cases, async ([rows, columns, dtype, list, inFile]) => {
      let matrix = numbered(rows, columns);
      let weight = wholeWeight(tensor(matrix.flat(), [rows, columns], { dtype, inFile }));
      let axisTaken: "first" | "last" | null = null;
      for (const step of list) {
        if (step.kind === "transpose") {
          weight = transposeWeight(weight);
          matrix = transposed(matrix);
          axisTaken = axisTaken === null ? null : axisTaken === "first" ? "last" : "first";
          continue;
        }
        // One weight is only ever picked from along one axis of its file; more is refused.
        if (axisTaken !== null && axisTaken !== step.kind) continue;
        axisTaken = step.kind;
        const length = step.kind === "first" ? matrix.length : matrix[0]!.length;
        const picks = step.picks.map((pick) => pick % length);
        weight = takeFromWeight(weight, step.kind, picks);
        matrix =
          step.kind === "first"
            ? picks.map((pick) => matrix[pick]!)
            : matrix.map((row) => picks.map((pick) => row[pick]!));
        picked++;
      }
      expect(weight.dims).toEqual([matrix.length, matrix[0]!.length]);
      expect(weightBytes(weight)).toBe(matrix.flat().length * BYTES[dtype]!);
      expect(await numbersOf(weight, BYTES[dtype]!)).toEqual(matrix.flat());
    }),
    { numRuns: 300 },
  );
  expect(picked).toBeGreaterThan(50);
});

it("columns of 4 bits are picked one by one, also where they share a byte", async () => {
  const cases = fc.tuple(
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 1, max: 5 }),
    fc.array(fc.nat(9), { minLength: 1, maxLength: 7 }),
    fc.boolean(),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ([rows, pairs, halves, inFile]) => {
      const picks = halves.flatMap((pick) => [pick % (2 * pairs), (pick * 7 + 3) % (2 * pairs)]);
      const matrix = numbered(rows, 2 * pairs).map((row) => row.map((value) => (value * 5) % 16));
      const packed = (numbers: number[]): number[] =>
        Array.from({ length: numbers.length / 2 }, (_, i) => numbers[2 * i]! + 16 * numbers[2 * i + 1]!);
      const bytes = tensor(packed(matrix.flat()), [rows, pairs], { dtype: "uint8", inFile });
      const weight = takeFromWeight(wholeWeight({ ...bytes, dtype: "int4", dims: [rows, 2 * pairs] }), "last", picks);
      const taken = matrix.map((row) => picks.map((pick) => row[pick]!));
      expect(weight.dims).toEqual([rows, picks.length]);
      expect(await numbersOf(weight, 1)).toEqual(packed(taken.flat()));
    }),
  );
});

it("a vector's elements are picked like columns", async () => {
  const weight = takeFromWeight(
    wholeWeight(tensor([0, 1, 2, 3, 4], [5], { dtype: "float32", inFile: false })),
    "last",
    [4, 0, 1],
  );
  expect(weight.dims).toEqual([3]);
  expect(await numbersOf(weight, 4)).toEqual([4, 0, 1]);
});

it("entries of the first of three axes are picked whole", async () => {
  const whole = wholeWeight(
    tensor(
      Array.from({ length: 24 }, (_, i) => i),
      [4, 3, 2],
      { dtype: "uint8", inFile: true },
    ),
  );
  const weight = takeFromWeight(whole, "first", [3, 1]);
  expect(weight.dims).toEqual([2, 3, 2]);
  expect(await numbersOf(weight, 1)).toEqual([18, 19, 20, 21, 22, 23, 6, 7, 8, 9, 10, 11]);
});

it("a reshaped weight keeps its bytes", async () => {
  const weight = reshapeWeight(
    wholeWeight(tensor([0, 1, 2, 3, 4, 5], [2, 3], { dtype: "uint8", inFile: false })),
    [3, 2],
  );
  expect(weight.dims).toEqual([3, 2]);
  expect(await numbersOf(weight, 1)).toEqual([0, 1, 2, 3, 4, 5]);
});

it("picking along both axes is refused", () => {
  const weight = takeFromWeight(
    wholeWeight(tensor([0, 1, 2, 3, 4, 5], [2, 3], { dtype: "uint8", inFile: false })),
    "first",
    [1],
  );
  expect(() => takeFromWeight(weight, "last", [0])).toThrow("along both axes");
});

it("a weight larger than one read is transposed and picked in pieces", async () => {
  const [rows, columns] = [3000, 1100];
  const path = join(folder, "large");
  const numbers = Float32Array.from({ length: rows * columns }, (_, i) => i);
  writeFileSync(path, new Uint8Array(numbers.buffer));
  const data = { kind: "file", path, offset: 0, length: numbers.byteLength } as const;
  const whole = wholeWeight({ name: "large", dtype: "float32", dims: [rows, columns], data });
  const turned = new Float32Array((await weightBytesOf(transposeWeight(whole))).buffer);
  expect(turned.length).toBe(numbers.length);
  for (const i of [0, 1, 2999, 3000, 1_650_000, turned.length - 1])
    expect(turned[i]).toBe(numbers[(i % rows) * columns + Math.floor(i / rows)]);
  const last = new Float32Array((await weightBytesOf(takeFromWeight(whole, "last", [1099, 5]))).buffer);
  expect([last[0], last[1], last.at(-2), last.at(-1)]).toEqual([1099, 5, 3_299_999, 2999 * 1100 + 5]);
});

it("long runs of columns are picked row by row", async () => {
  const [rows, columns] = [300, 9000];
  const path = join(folder, "packed");
  const numbers = Float32Array.from({ length: rows * columns }, (_, i) => i);
  writeFileSync(path, new Uint8Array(numbers.buffer));
  const data = { kind: "file", path, offset: 0, length: numbers.byteLength } as const;
  const whole = wholeWeight({ name: "packed", dtype: "float32", dims: [rows, columns], data });
  const picked = Array.from({ length: 3000 }, (_, i) => (i < 1500 ? 7000 + i : 100 + i));
  const taken = new Float32Array((await weightBytesOf(takeFromWeight(whole, "last", picked))).buffer);
  const expected = Float32Array.from(
    { length: rows * 3000 },
    (_, i) => Math.floor(i / 3000) * columns + picked[i % 3000]!,
  );
  expect(Buffer.compare(Buffer.from(taken.buffer), Buffer.from(expected.buffer))).toBe(0);
});

it("two recipes are one only when they give the same from the same place", () => {
  const whole = wholeWeight(tensor([0, 1, 2, 3], [2, 2], { dtype: "float32", inFile: true }));
  const recipes = [
    whole,
    transposeWeight(whole),
    takeFromWeight(whole, "last", [1]),
    takeFromWeight(whole, "first", [1]),
    reshapeWeight(whole, [4]),
  ];
  expect(new Set(recipes.map(describeWeight)).size).toBe(recipes.length);
  expect(describeWeight(transposeWeight(transposeWeight(whole)))).toBe(describeWeight(whole));
  expect(describeWeight(takeFromWeight(whole, "last", [0, 1]))).toBe(describeWeight(whole));
});

function numbered(rows: number, columns: number): Matrix {
  const rowOf = (start: number): number[] => Array.from({ length: columns }, (_, column) => start + column);
  return Array.from({ length: rows }, (_, row) => rowOf(row * columns));
}

let files = 0;

function tensor(
  values: number[],
  dims: number[],
  { dtype, inFile }: { dtype: ElementType; inFile: boolean },
): Weight["tensor"] {
  const size = BYTES[dtype]!;
  const bytes = new Uint8Array(values.length * size);
  values.forEach((value, i) => (bytes[i * size] = value));
  if (!inFile) return { name: "weight", dtype, dims, data: { kind: "bytes", bytes } };
  const path = join(folder, `tensor-${files++}`);
  writeFileSync(path, Buffer.concat([Buffer.alloc(5, 255), bytes, Buffer.alloc(3, 255)]));
  return { name: "weight", dtype, dims, data: { kind: "file", path, offset: 5, length: bytes.length } };
}

/** Elements hold their number in their first byte. */
async function numbersOf(weight: Weight, size: number): Promise<number[]> {
  const bytes = await weightBytesOf(weight);
  return Array.from({ length: bytes.length / size }, (_, i) => bytes[i * size]!);
}

function transposed(matrix: Matrix): Matrix {
  return matrix[0]!.map((_, column) => matrix.map((row) => row[column]!));
}
