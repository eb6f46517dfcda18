import { ATTRIBUTE, ENTRY, GRAPH, MODEL, NODE, OPSET, TENSOR } from "../../src/onnx/fields.ts";
import type { ErrorCode } from "../../src/support/errors.ts";
import { WireWriter } from "../../src/onnx/wire-writer.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { node, smallModel } from "./small-model.ts";

interface HostileFile {
  name: string;
  bytes: Uint8Array;
  code: ErrorCode;
  /** What the message must say. */
  message: RegExp;
}

/** Files that must be refused, each by one named rule; kept in fixtures/hostile for the tests of other rooms. */
export function hostileFiles(): HostileFile[] {
  const whole = writeModel(smallModel([node({ opType: "Neg", inputs: ["x"], outputs: ["y"] })]));
  return [
    refused("empty", new Uint8Array(0), "model_invalid", /holds no graph/),
    refused("text", Buffer.from("This is not a model.\n"), "model_invalid", /wire type|bytes/),
    refused("truncated", whole.subarray(0, whole.length / 2), "model_invalid", /says \d+ bytes, \d+ are left/),
    refused("varint-too-long", bytes([0x08], repeat(0xff, 11)), "model_invalid", /longer than 64 bits/),
    refused("varint-cut-off", bytes([0x08, 0xff]), "model_invalid", /cut off/),
    refused(
      "length-beyond-file",
      bytes([0x3a], repeat(0xff, 8), [0x0f]),
      "model_invalid",
      /says \d+ bytes, 0 are left/,
    ),
    refused("group", bytes([0x0b, 0x0c]), "model_invalid", /wire type 3/),
    refused("field-zero", bytes([0x00, 0x00]), "model_invalid", /field number/),
    refused("wrong-wire-type", bytes([0x38, 0x01]), "model_invalid", /the graph has wire type 0/),
    refused("no-opset", message([MODEL.graph, message()]).finish(), "model_invalid", /no operator set/),
    refused("name-not-utf8", inGraph([GRAPH.name, bytes([0xc3, 0x28])]), "model_invalid", /not UTF-8/),
    refused("node-without-operator", inGraph([GRAPH.node, message()]), "model_invalid", /no operator/),
    refused("deep-graphs", inGraph([GRAPH.node, nested(1000)]), "model_too_large", /17 is over the limit 16/),
    refused(
      "long-name",
      inGraph([GRAPH.name, new Uint8Array(20_000)]),
      "model_too_large",
      /20000 is over the limit 16384/,
    ),
    refused(
      "huge-dims",
      withTensor({ dims: [2 ** 39, 2 ** 39] }),
      "model_too_large",
      /over the limit 9007199254740991/,
    ),
    refused(
      "huge-dim",
      withTensor({ dims: [2 ** 41] }),
      "model_too_large",
      /over the limit 1099511627776 \(dimension\)/,
    ),
    refused(
      "many-dims",
      withTensor({ dims: [...repeat(1, 65)] }),
      "model_too_large",
      /65 is over the limit 64 \(rank\)/,
    ),
    refused("negative-dim", withTensor({ dims: [-1] }), "model_invalid", /-1 is not a size/),
    refused("data-too-short", withTensor({ dims: [1000] }), "model_invalid", /4 bytes of data, .* need 4000/),
    refused("unknown-element-type", withTensor({ dims: [1], type: 99 }), "model_unsupported", /element type 99/),
    refused("external-parent", external("../secret"), "external_data_escapes", /"\.\.\/secret" leaves/),
    refused("external-absolute", external("/etc/hostname"), "external_data_escapes", /"\/etc\/hostname" leaves/),
    refused(
      "external-missing",
      external("absent.bin"),
      "external_data_missing",
      /tensor w: there is no file .*absent\.bin/,
    ),
    refused(
      "external-short",
      external("external-short.onnx", 10_000),
      "external_data_short",
      /offset 10000 \+ length 4/,
    ),
  ];
}

function refused(name: string, content: Uint8Array, code: ErrorCode, text: RegExp): HostileFile {
  return { name: `${name}.onnx`, bytes: content, code, message: text };
}

type Field = [field: number, value: WireWriter | Uint8Array | string | number];

function message(...fields: Field[]): WireWriter {
  const writer = new WireWriter();
  for (const [field, value] of fields) {
    if (typeof value === "number") writer.int(field, value);
    else if (typeof value === "string") writer.string(field, value);
    else if (value instanceof WireWriter) writer.message(field, value);
    else writer.bytes(field, value);
  }
  return writer;
}

function inGraph(...fields: Field[]): Uint8Array {
  const opset = message([OPSET.version, 21]);
  return message([MODEL.irVersion, 8], [MODEL.graph, message(...fields)], [MODEL.opsetImport, opset]).finish();
}

function withTensor({ dims, type = 1 }: { dims: number[]; type?: number }): Uint8Array {
  const tensor = message([TENSOR.dataType, type], [TENSOR.name, "w"], [TENSOR.rawData, new Uint8Array(4)]);
  tensor.ints(TENSOR.dims, dims);
  return inGraph([GRAPH.initializer, tensor]);
}

function external(location: string, offset = 0): Uint8Array {
  const entries = Object.entries({ location, offset: String(offset), length: "4" }).map(([key, value]): Field => [
    TENSOR.externalData,
    message([ENTRY.key, key], [ENTRY.value, value]),
  ]);
  const fields: Field[] = [[TENSOR.dataType, 1], [TENSOR.name, "w"], ...entries, [TENSOR.dataLocation, 1]];
  const tensor = message(...fields);
  tensor.ints(TENSOR.dims, [1]);
  return inGraph([GRAPH.initializer, tensor]);
}

/** An If whose branch holds an If, and so on. */
function nested(depth: number): WireWriter {
  let inner = message([NODE.opType, "If"]);
  for (let level = 0; level < depth; level++) {
    const attribute = message(
      [ATTRIBUTE.name, "a"],
      [ATTRIBUTE.graph, message([GRAPH.node, inner])],
      [ATTRIBUTE.type, 5],
    );
    inner = message([NODE.opType, "If"], [NODE.attribute, attribute]);
  }
  return inner;
}

function bytes(...parts: Iterable<number>[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function repeat(value: number, count: number): number[] {
  return Array.from({ length: count }, () => value);
}
