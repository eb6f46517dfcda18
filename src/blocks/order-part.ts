import { createHash } from "node:crypto";

import type { RowProgram } from "../canonical/rows.ts";
import type { CutPart } from "./cut-model.ts";

/**
 * The nodes of a part in canonical order, each with its operands in canonical order: depth first from the outputs,
 * the operands of a commutative operation sorted by what they compute. Exporters order these as they like.
 */
export function orderPart(program: RowProgram, part: CutPart): { id: number; inputs: number[] }[] {
  const shapes = new Map<number, string>();
  const shape = (id: number): string => {
    const known = shapes.get(id);
    if (known !== undefined) return known;
    const node = program.node(id);
    const weights = Object.entries(node.weights).map(([name, weight]) => `${name}${weight.dims.join("x")}`);
    const operands = operandsOf(id).map(shape);
    const text =
      part.inputs.get(id) ?? shortened(`${JSON.stringify([node.op, node.attributes, weights])}(${operands.join()})`);
    shapes.set(id, text);
    return text;
  };
  const operandsOf = (id: number): number[] => {
    const node = program.node(id);
    if (part.inputs.has(id)) return [];
    if (node.op !== "binary" || !["Add", "Mul"].includes(node.attributes.function!)) return node.inputs;
    return node.inputs.toSorted((a, b) => (shape(a) < shape(b) ? -1 : shape(a) > shape(b) ? 1 : 0));
  };
  const ordered: { id: number; inputs: number[] }[] = [];
  const done = new Set<number>();
  const visit = (id: number): void => {
    if (done.has(id) || part.inputs.has(id)) return;
    done.add(id);
    const inputs = operandsOf(id);
    for (const input of inputs) visit(input);
    ordered.push({ id, inputs });
  };
  for (const { node } of part.outputs) visit(node);
  return ordered;
}

/** A text holds those of all it depends on: many experts would make it long. */
function shortened(text: string): string {
  return text.length < LONGEST_TEXT ? text : createHash("sha256").update(text).digest("hex");
}

const LONGEST_TEXT = 16_384;
