import * as fc from "fast-check";
import type {
  Attribute,
  ElementType,
  GraphNode,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  TensorInfo,
  ValueInfo,
} from "../../src/onnx/model.ts";
import { tensorBytes } from "../../src/onnx/tensor-data.ts";

const ELEMENT_TYPES: ElementType[] = [
  ...(["float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16"] as const),
  ...(["float64", "uint32", "uint64", "bfloat16", "float8e4m3fn", "float8e5m2", "uint4", "int4"] as const),
];

const text = fc.string({ unit: "binary", maxLength: 12 });
const identifier = fc.string({ unit: fc.constantFrom("a", "b", "Z", "0", "_", "/", "."), minLength: 1, maxLength: 12 });
const integer = fc.oneof(fc.maxSafeInteger(), fc.integer({ min: -3, max: 300 }));
const float = fc.float({ noNaN: true });

/** Tensors in memory only; what lies in files is for other tests. */
const tensor: fc.Arbitrary<TensorInfo> = fc
  .record({ name: identifier, dtype: fc.constantFrom(...ELEMENT_TYPES), dims: fc.array(fc.nat(4), { maxLength: 3 }) })
  .chain(({ name, dtype, dims }) =>
    bytesFor(dtype, dims).map((bytes) => ({ name, dtype, dims, data: { kind: "bytes", bytes } })),
  );

function bytesFor(dtype: ElementType, dims: number[]): fc.Arbitrary<Uint8Array> {
  if (dtype !== "string") {
    const length = tensorBytes(dtype, dims);
    return fc.uint8Array({ minLength: length, maxLength: length });
  }
  const count = dims.reduce((product, dim) => product * dim, 1);
  return fc.array(text, { minLength: count, maxLength: count }).map((texts) => packStrings(texts));
}

/** The in-memory form of a string tensor. */
export function packStrings(texts: string[]): Uint8Array {
  return new Uint8Array(
    Buffer.concat(
      texts.flatMap((value) => {
        const length = Buffer.alloc(4);
        length.writeUInt32LE(Buffer.byteLength(value));
        return [length, Buffer.from(value)];
      }),
    ),
  );
}

const dimension = fc.oneof(fc.nat(), identifier, fc.constant(null));

const valueInfo: fc.Arbitrary<ValueInfo> = fc.record({
  name: identifier,
  dtype: fc.constantFrom(...ELEMENT_TYPES, "unknown" as const),
  dims: fc.option(fc.array(dimension, { maxLength: 4 })),
});

const { graph, node, attribute } = fc.letrec<{ graph: OnnxGraph; node: GraphNode; attribute: Attribute }>((tie) => ({
  graph: fc.record({
    name: text,
    nodes: fc.array(tie("node"), { maxLength: 3 }),
    initializers: fc
      .array(tensor, { maxLength: 3 })
      .map((tensors) => new Map(tensors.map((value) => [value.name, value]))),
    inputs: fc.array(valueInfo, { maxLength: 3 }),
    outputs: fc.array(valueInfo, { maxLength: 3 }),
  }),
  node: fc.record({
    name: text,
    opType: fc.oneof(identifier, fc.constant("Op:overload")),
    domain: fc.oneof(fc.constant(""), identifier),
    inputs: fc.array(text, { maxLength: 3 }),
    outputs: fc.array(text, { maxLength: 3 }),
    attributes: fc.dictionary(identifier, tie("attribute"), { maxKeys: 3 }).map((entries) => sorted(entries)),
  }),
  attribute: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ kind: fc.constant("int"), value: integer }),
    fc.record({ kind: fc.constant("float"), value: float }),
    fc.record({ kind: fc.constant("string"), value: text }),
    fc.record({ kind: fc.constant("tensor"), value: tensor }),
    fc.record({ kind: fc.constant("floats"), value: fc.array(float, { maxLength: 4 }) }),
    fc.record({ kind: fc.constant("ints"), value: fc.array(integer, { maxLength: 4 }) }),
    fc.record({ kind: fc.constant("strings"), value: fc.array(text, { maxLength: 4 }) }),
    fc.record({
      kind: fc.constant("reference"),
      value: identifier,
      type: fc.constantFrom("float", "int", "string", "tensor", "graph", "floats", "ints", "strings"),
    }),
    fc.record({ kind: fc.constant("graph"), value: tie("graph") }),
  ) as fc.Arbitrary<Attribute>,
}));

const opsets = fc
  .dictionary(fc.oneof(fc.constant(""), identifier), fc.nat(30), { minKeys: 1, maxKeys: 3 })
  .map((entries) => sorted(entries));

const definition: fc.Arbitrary<OnnxFunction> = fc.record({
  domain: fc.oneof(fc.constant(""), identifier),
  name: identifier,
  inputs: fc.array(identifier, { maxLength: 3 }),
  outputs: fc.array(identifier, { maxLength: 3 }),
  attributes: fc.array(identifier, { maxLength: 3 }),
  defaults: fc.dictionary(identifier, attribute, { maxKeys: 2 }).map((entries) => sorted(entries)),
  nodes: fc.array(node, { maxLength: 3 }),
  opsets,
});

/** Any model that the written form can hold; maps are in the writer's order, so that equality can be deep. */
export const arbitraryModel: fc.Arbitrary<OnnxModel> = fc.record({
  irVersion: fc.nat(20),
  producer: text,
  opsets,
  graph,
  functions: fc
    .array(definition, { maxLength: 2 })
    .map((all) => sorted(Object.fromEntries(all.map((one) => [`${one.domain}::${one.name}`, one])))),
});

function sorted<Value>(entries: Record<string, Value>): Map<string, Value> {
  return new Map(Object.entries(entries).toSorted(([a], [b]) => (a < b ? -1 : Number(a > b))));
}
