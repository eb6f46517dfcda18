/** The ONNX file format as plain data; nothing here knows about language models. */

export interface OnnxModel {
  irVersion: number;
  producer: string;
  /** Domain → version; the default domain is "". */
  opsets: Map<string, number>;
  graph: OnnxGraph;
  /** Model-local functions, by `domain::name`. */
  functions: Map<string, OnnxFunction>;
}

export interface OnnxGraph {
  name: string;
  nodes: GraphNode[];
  initializers: Map<string, TensorInfo>;
  inputs: ValueInfo[];
  outputs: ValueInfo[];
}

export interface GraphNode {
  name: string;
  opType: string;
  /** "" is the default domain ("ai.onnx" is written as ""). */
  domain: string;
  /** "" marks an omitted optional input. */
  inputs: string[];
  outputs: string[];
  attributes: Map<string, Attribute>;
}

export interface OnnxFunction {
  domain: string;
  name: string;
  inputs: string[];
  outputs: string[];
  /** Names of attributes a caller must give. */
  attributes: string[];
  /** Attributes a caller may leave out, with their values. */
  defaults: Map<string, Attribute>;
  nodes: GraphNode[];
  opsets: Map<string, number>;
}

export type Attribute =
  | { kind: "float"; value: number }
  | { kind: "int"; value: number }
  | { kind: "string"; value: string }
  | { kind: "tensor"; value: TensorInfo }
  | { kind: "graph"; value: OnnxGraph }
  | { kind: "floats"; value: number[] }
  | { kind: "ints"; value: number[] }
  | { kind: "strings"; value: string[] }
  /** Inside a model-local function: the value of the caller's attribute of this name, which is of this kind. */
  | { kind: "reference"; value: string; type: ValueKind };

export type ValueKind = Exclude<Attribute["kind"], "reference">;

export interface ValueInfo {
  name: string;
  dtype: ElementType | "unknown";
  /** A number, a symbol's name, or null where the file says nothing; null as a whole when there is no shape. */
  dims: (number | string | null)[] | null;
}

/** A tensor's place, not its bytes: `name, dtype, dims, file, offset, length`. */
export interface TensorInfo {
  name: string;
  dtype: ElementType;
  dims: number[];
  data: TensorData;
}

export type TensorData =
  /**
   * Bytes in a file, little-endian, row-major: an external data file, or raw_data inside the .onnx file itself. `packed`: where
   * ONNX Runtime wrote them once more as its kernels take them, by the keys of external_data that say so.
   */
  | { kind: "file"; path: string; offset: number; length: number; packed?: ReadonlyMap<string, string> }
  /** The same bytes in memory; never written to. Strings: each a uint32 byte length, then its UTF-8. */
  | { kind: "bytes"; bytes: Uint8Array };

/** ONNX TensorProto.DataType, by the spec's names in lower case. */
export type ElementType =
  | "float32"
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "int32"
  | "int64"
  | "string"
  | "bool"
  | "float16"
  | "float64"
  | "uint32"
  | "uint64"
  | "bfloat16"
  | "float8e4m3fn"
  | "float8e5m2"
  | "uint4"
  | "int4";
