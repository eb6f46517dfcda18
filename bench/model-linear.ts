import type { ElementType } from "../src/onnx/model.ts";
import type { GraphBuilder } from "./graph-builder.ts";

/** How projections are stored: float32, or blocks of integers as onnxruntime-genai's builder quantises. */
export type Precision = "fp32" | "int8" | "int4";

/** Of the option `--precision`; ends the process where it is none. */
export function precisionNamed(text: string): Precision {
  if (text === "fp32" || text === "int8" || text === "int4") return text;
  console.error(`--precision is ${text}; it can be fp32, int8 or int4`);
  process.exit(2);
}

/** Weights that share a scale. */
export const BLOCK_SIZE = 32;
export const LORA_RANK = 8;

export interface WeightShape {
  name: string;
  dtype: ElementType;
  dims: number[];
  /** null: no layer's own. */
  layer: number | null;
  /** `quantised` and `scales` belong together: the integers of a weight and what one step of them is. */
  fill: "random" | "quantised" | "scales" | "ones" | "cos" | "sin";
  /** Of the integers that `scales` belong to. */
  bits?: number;
}

export interface Linear {
  name: string;
  /** Of its input rows and of its output rows. */
  widths: readonly [number, number];
  layer: number | null;
}

/** What graphs of one kind have in common. */
export interface GraphForm {
  precision: Precision;
  /** A LoRA beside every projection but the head, its factors in float32. */
  factors: boolean;
}

export function bitsOf(precision: "int8" | "int4"): number {
  return precision === "int8" ? 8 : 4;
}

/** [in, out] in float32; or [out, blocks, bytes] and a scale per block, the middle of the integers standing for zero. */
export function linearWeights({ name, widths: [inner, outer], layer }: Linear, precision: Precision): WeightShape[] {
  const weight = `${name}.MatMul.weight`;
  if (precision === "fp32") return [{ name: weight, dtype: "float32", dims: [inner, outer], layer, fill: "random" }];
  const bits = bitsOf(precision);
  const blocks = inner / BLOCK_SIZE;
  const dims = [outer, blocks, (BLOCK_SIZE * bits) / 8];
  return [
    { name: `${weight}_Q${bits}`, dtype: "uint8", dims, layer, fill: "quantised" },
    { name: `${weight}_scales`, dtype: "float32", dims: [outer, blocks], layer, fill: "scales", bits },
  ];
}

/** The factors of a LoRA: [in, rank] and [rank, out]. */
export function factorWeights({ name, widths: [inner, outer], layer }: Linear): WeightShape[] {
  const factor = (label: string, dims: number[]): WeightShape => ({
    name: `${name}.${label}.MatMul.weight`,
    dtype: "float32",
    dims,
    layer,
    fill: "random",
  });
  return [factor("lora_A", [inner, LORA_RANK]), factor("lora_B", [LORA_RANK, outer])];
}

/** The projection of `input`, whose name is given back. */
export function addLinear(
  graph: GraphBuilder,
  { input, linear, form }: { input: string; linear: Linear; form: GraphForm },
): string {
  const { name } = linear;
  const projected = addProjection(graph, { input, linear, precision: form.precision });
  if (!form.factors || linear.layer === null) return projected;
  graph.add("MatMul", [input, `${name}.lora_A.MatMul.weight`], [`${name}.lora_A`]);
  graph.add("MatMul", [`${name}.lora_A`, `${name}.lora_B.MatMul.weight`], [`${name}.lora_B`]);
  graph.add("Add", [projected, `${name}.lora_B`], [`${name}.lora`]);
  return `${name}.lora`;
}

/** Rows of the head's weight by token id, where the table of tokens and the head are one tensor. */
export function addTiedEmbedding(
  graph: GraphBuilder,
  { head, precision }: { head: Linear; precision: Precision },
): string {
  const weight = `${head.name}.MatMul.weight`;
  if (precision === "fp32") {
    graph.add("Transpose", [weight], ["table"], { perm: [1, 0] });
    graph.add("Gather", ["table", "input_ids"], ["embedded"]);
    return "embedded";
  }
  const bits = bitsOf(precision);
  const [inner, outer] = head.widths;
  graph.constant("table_shape", [2], [outer, (inner * bits) / 8]);
  graph.add("Reshape", [`${weight}_Q${bits}`, "table_shape"], ["table"]);
  graph.add(
    "GatherBlockQuantized",
    ["table", "input_ids", `${weight}_scales`],
    ["embedded"],
    { bits, block_size: BLOCK_SIZE, gather_axis: 0, quantize_axis: 1 },
    "com.microsoft",
  );
  return "embedded";
}

function addProjection(
  graph: GraphBuilder,
  { input, linear, precision }: { input: string; linear: Linear; precision: Precision },
): string {
  const { name, widths } = linear;
  const weight = `${name}.MatMul.weight`;
  const output = name === "lm_head" ? "logits" : `${name}.out`;
  if (precision === "fp32") {
    graph.add("MatMul", [input, weight], [output]);
    return output;
  }
  const bits = bitsOf(precision);
  const [K, N] = widths;
  graph.add(
    "MatMulNBits",
    [input, `${weight}_Q${bits}`, `${weight}_scales`],
    [output],
    { K, N, accuracy_level: 4, bits, block_size: BLOCK_SIZE },
    "com.microsoft",
  );
  return output;
}
