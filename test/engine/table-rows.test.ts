import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, expect, it } from "vitest";

import type { LiftedTable } from "../../src/chain/lift-tables.ts";
import { TableRows } from "../../src/engine/execute/table-rows.ts";

const ROWS = 50;
const WIDTH = 6;
const BEFORE = 8;

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "blockllm-test-"));
  const floats = Float32Array.from({ length: ROWS * WIDTH }, (_, at) => at / 8);
  const words = new Uint32Array(floats.buffer);
  await writeFile(
    join(folder, "float32"),
    new Uint8Array([...new Uint8Array(BEFORE), ...new Uint8Array(floats.buffer)]),
  );
  const upper = Uint16Array.from(words, (word) => word >>> 16);
  await writeFile(
    join(folder, "bfloat16"),
    new Uint8Array([...new Uint8Array(BEFORE), ...new Uint8Array(upper.buffer)]),
  );
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));

function tableOf(dtype: "float32" | "bfloat16"): LiftedTable {
  const length = ROWS * WIDTH * (dtype === "float32" ? 4 : 2);
  const data = { kind: "file" as const, path: join(folder, dtype), offset: BEFORE, length };
  return { input: "rows", index: "ids", table: { name: "t", dtype, dims: [ROWS, WIDTH], data } };
}

function rowsOf(table: LiftedTable, ids: number[]): Float32Array {
  const tables = TableRows.open([table]);
  try {
    const given = tables.feed({ ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) }, ["rows"]);
    expect(Object.keys(given)).toEqual(["rows"]);
    expect(given["rows"]!.dims).toEqual([1, ids.length, WIDTH]);
    return given["rows"]!.data as Float32Array;
  } finally {
    tables.close();
  }
}

it("gives the rows that are asked for, whichever follow each other", () => {
  const runs = fc.array(fc.record({ first: fc.nat(ROWS - 9), count: fc.integer({ min: 1, max: 6 }) }), {
    minLength: 1,
  });
  fc.assert(
    fc.property(runs, fc.constantFrom("float32" as const, "bfloat16" as const), (asked, dtype) => {
      const ids = asked.flatMap(({ first, count }) => Array.from({ length: count }, (_, at) => first + at));
      const exact = ids.flatMap((id) => Array.from({ length: WIDTH }, (_, at) => (id * WIDTH + at) / 8));
      const expected = dtype === "float32" ? exact : exact.map(upperHalf);
      expect([...rowsOf(tableOf(dtype), ids)]).toEqual(expected);
    }),
  );
});

it.each([[[ROWS]], [[3, ROWS - 1, ROWS]], [[-1]]])("rows %j are more than there are", (ids) => {
  expect(() => rowsOf(tableOf("float32"), ids)).toThrow(`of a table of ${ROWS} is asked for`);
});

it("a file that ends early is no row of zeros", () => {
  const { table, ...rest } = tableOf("float32");
  expect(() => rowsOf({ ...rest, table: { ...table, dims: [ROWS + 1, WIDTH] } }, [ROWS])).toThrow("bytes early");
});

function upperHalf(value: number): number {
  const words = new Uint32Array(Float32Array.of(value).buffer);
  words[0] = words[0]! & 0xffff0000;
  return new Float32Array(words.buffer)[0]!;
}
