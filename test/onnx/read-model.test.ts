import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ELEMENT_TYPE_CODES } from "../../src/onnx/fields.ts";
import type { ElementType, OnnxModel } from "../../src/onnx/model.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { readTensor, toNumbers } from "../../src/onnx/tensor-data.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { arbitraryModel, packStrings } from "./arbitrary-model.ts";
import { onnx, summariseProto } from "./protobuf-oracle.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const path = join(temporaryFolder(), "model.onnx");

/** What protobufjs writes, as this project reads it. */
async function readEncoded(graph: object, rest: object = {}): Promise<OnnxModel> {
  const model = { irVersion: 8, opsetImport: [{ domain: "ai.onnx", version: 21 }], graph, ...rest };
  writeFileSync(path, onnx.ModelProto.encode(onnx.ModelProto.fromObject(model)).finish());
  return readModel(path);
}

async function readAttribute(attribute: object): Promise<unknown> {
  const model = await readEncoded({ node: [{ opType: "Op", attribute: [{ name: "a", ...attribute }] }] });
  return model.graph.nodes[0]!.attributes.get("a");
}

describe("attributes that protobufjs wrote", () => {
  test.each([
    [
      { type: 1, f: 0.5 },
      { kind: "float", value: 0.5 },
    ],
    [
      { type: 2, i: -7 },
      { kind: "int", value: -7 },
    ],
    [{ type: 2 }, { kind: "int", value: 0 }],
    [{ i: 3 }, { kind: "int", value: 3 }],
    [
      { type: 3, s: Buffer.from("é") },
      { kind: "string", value: "é" },
    ],
    [
      { type: 6, floats: [1, -2] },
      { kind: "floats", value: [1, -2] },
    ],
    [
      { type: 7, ints: [1, -2, 2 ** 40] },
      { kind: "ints", value: [1, -2, 2 ** 40] },
    ],
    [{ type: 7 }, { kind: "ints", value: [] }],
    [
      { type: 8, strings: [Buffer.from("x")] },
      { kind: "strings", value: ["x"] },
    ],
    [
      { type: 2, refAttrName: "outer" },
      { kind: "reference", value: "outer", type: "int" },
    ],
  ])("%j", async (written, expected) => {
    expect(await readAttribute(written)).toEqual(expected);
  });

  test("a tensor and a graph", async () => {
    const t = { dims: [2], dataType: 1, floatData: [1, 2] };
    expect(await readAttribute({ type: 4, t })).toMatchObject({
      kind: "tensor",
      value: { dtype: "float32", dims: [2] },
    });
    const g = { name: "then", node: [{ opType: "Identity", input: ["", "x"] }] };
    expect(await readAttribute({ type: 5, g })).toMatchObject({
      kind: "graph",
      value: { name: "then", nodes: [{ opType: "Identity", inputs: ["", "x"] }] },
    });
  });

  test("int64 ends are clamped, other values beyond 2^53 are refused", async () => {
    const ints = ["9223372036854775807", "-9223372036854775808", "-9223372036854775807"];
    expect(await readAttribute({ type: 7, ints })).toEqual({
      kind: "ints",
      value: [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    });
    await expect(readAttribute({ type: 2, i: "9007199254740993" })).rejects.toMatchObject({
      code: "model_unsupported",
      message: expect.stringContaining("9007199254740993"),
    });
  });

  test("kinds without a meaning here are refused by name", async () => {
    await expect(
      readAttribute({ type: 9, tensors: [{ dims: [], dataType: 1, floatData: [1] }] }),
    ).rejects.toMatchObject({
      code: "model_unsupported",
      message: expect.stringContaining("attribute a"),
    });
  });
});

describe("typed data becomes the bytes raw_data would hold", () => {
  test.each<[ElementType, object, number[]]>([
    ["float32", { floatData: [1.5, -2] }, [1.5, -2]],
    ["float64", { doubleData: [0.1, -2] }, [0.1, -2]],
    ["int64", { int64Data: [-1, 2 ** 40] }, [-1, 2 ** 40]],
    ["uint64", { uint64Data: [1, 2 ** 40] }, [1, 2 ** 40]],
    ["uint32", { uint64Data: [1, 2 ** 32 - 1] }, [1, 2 ** 32 - 1]],
    ["int32", { int32Data: [-1, 7] }, [-1, 7]],
    ["int16", { int32Data: [-1, 7] }, [-1, 7]],
    ["int8", { int32Data: [-128, 7] }, [-128, 7]],
    ["uint16", { int32Data: [65535, 7] }, [65535, 7]],
    ["uint8", { int32Data: [255, 7] }, [255, 7]],
    ["bool", { int32Data: [1, 0] }, [1, 0]],
    ["float16", { int32Data: [0x3c00, 0xc000] }, [1, -2]],
    ["bfloat16", { int32Data: [0x3f80, 0xc000] }, [1, -2]],
    ["float8e4m3fn", { int32Data: [0x38, 0xc0] }, [1, -2]],
    ["float8e5m2", { int32Data: [0x3c, 0xc0] }, [1, -2]],
    ["int4", { int32Data: [0x81] }, [1, -8]],
    ["uint4", { int32Data: [0x81] }, [1, 8]],
  ])("%s", async (dtype, data, values) => {
    const tensor = { name: "w", dims: [2], dataType: ELEMENT_TYPE_CODES[dtype], ...data };
    const read = (await readEncoded({ initializer: [tensor] })).graph.initializers.get("w")!;
    expect(read).toMatchObject({ dtype, dims: [2] });
    expect([...toNumbers(readTensor(read), dtype)]).toEqual(values);
  });

  test("strings", async () => {
    const tensor = { name: "w", dims: [2], dataType: 8, stringData: [Buffer.from("a"), Buffer.from("ü")] };
    const model = await readEncoded({ initializer: [tensor] });
    expect(readTensor(model.graph.initializers.get("w")!)).toEqual(packStrings(["a", "ü"]));
  });
});

test("large raw_data stays in the file, and is read from there", async () => {
  const rawData = Buffer.from(Float32Array.from({ length: 300 }, (_, index) => index).buffer);
  const model = await readEncoded({ initializer: [{ name: "w", dims: [300], dataType: 1, rawData }] });
  const tensor = model.graph.initializers.get("w")!;
  expect(tensor.data).toMatchObject({ kind: "file", path, length: 1200 });
  expect(toNumbers(readTensor(tensor), "float32")[299]).toBe(299);
});

test("value infos: numbers, names, unknown sizes, unknown types", async () => {
  const dim = [{ dimValue: 2 }, { dimParam: "n" }, {}, { dimValue: -1 }];
  const model = await readEncoded({
    input: [
      { name: "x", type: { tensorType: { elemType: 10, shape: { dim } } } },
      { name: "y", type: { tensorType: { elemType: 1 } } },
      { name: "s", type: { sequenceType: { elemType: { tensorType: { elemType: 1 } } } } },
    ],
  });
  expect(model.graph.inputs).toEqual([
    { name: "x", dtype: "float16", dims: [2, "n", null, null] },
    { name: "y", dtype: "float32", dims: null },
    { name: "s", dtype: "unknown", dims: null },
  ]);
});

test("functions, operator sets and ai.onnx, which is the default domain", async () => {
  const node = [{ opType: "Relu", domain: "ai.onnx", input: ["a"], output: ["b"] }];
  const functions = [{ domain: "local", name: "f", input: ["a"], output: ["b"], attribute: ["alpha"], node }];
  const model = await readEncoded({ node: [{ opType: "f", domain: "local" }] }, { functions });
  expect(model.opsets).toEqual(new Map([["", 21]]));
  expect(model.functions.get("local::f")).toMatchObject({
    inputs: ["a"],
    attributes: ["alpha"],
    nodes: [{ opType: "Relu", domain: "" }],
  });
});

test("protobufjs reads every model that this project writes", () => {
  fc.assert(
    fc.property(arbitraryModel, (model) => {
      const { graph } = summariseProto(writeModel(model)) as {
        graph: { nodes: { opType: string; inputs: string[] }[] };
      };
      expect(graph.nodes.map(({ inputs }) => inputs)).toEqual(model.graph.nodes.map(({ inputs }) => inputs));
      expect(graph.nodes.map(({ opType }) => opType)).toEqual(
        model.graph.nodes.map(({ opType }) => opType.replace(":overload", "")),
      );
    }),
    { numRuns: 100 },
  );
});
