import type { GraphNode } from "../onnx/model.ts";
import { pickColumns, scaleForm } from "./form.ts";
import { readHeads, uniformFactor, type ElementAt, type Heads } from "./heads.ts";
import type { Lifter } from "./lifter.ts";
import { hasRotation, recogniseRotary, type RotaryFinding } from "./rotary.ts";
import { count, Unliftable, type Form } from "./value.ts";

/** The rows the core takes: columns picked in head order, rotated where they are. */
export function headRows(
  lifter: Lifter,
  heads: Heads,
  node: string,
): { node: number; factor: number; rotated: boolean } {
  const picked = pickColumns(lifter.program, heads.source, Array.from(heads.columns));
  if (!hasRotation(heads)) return { node: picked, factor: uniformFactor(heads, node), rotated: false };
  const finding: RotaryFinding = recogniseRotary(heads, { past: lifter.probe.past, vectors: lifter.vectors, node });
  const attributes = {
    heads: heads.heads,
    rotary: finding.rotary,
    ...(finding.tables === null ? {} : { rotaryTables: finding.tables }),
  };
  const width = heads.heads * heads.size;
  const id = lifter.program.add({ op: "rotary", inputs: [picked], width, attributes, weights: {} });
  return { node: id, factor: finding.factor, rotated: true };
}

/** Rotated heads as rows, for what is computed on them before they meet in the core (a norm of each head). */
export function rotateRows(lifter: Lifter, node: GraphNode, x: Form): Form {
  const { program, probe } = lifter;
  const size = x.dims.at(-1)!;
  const heads = count(x.dims) / size / probe.sequence;
  const [first, second] = x.terms;
  const rotated = second!.index.subarray(0, size).findLastIndex((partner) => partner >= 0) + 1;
  // A core may reorder the elements of heads, and then a norm's weights would belong to others.
  if (second!.index.subarray(0, rotated).includes(-1))
    throw new Unliftable(node.name, "heads are normalised after other than their first elements were rotated");
  const headsFirst = heads > 1 && first!.index[size]! >= program.width(headSource(first!.source));
  const at: ElementAt = (head, token, d) =>
    (headsFirst ? head * probe.sequence + token : token * heads + head) * size + d;
  const width = (source: number): number => program.width(source);
  const shape = { heads, size, sequence: probe.sequence, width, node: node.name };
  const rows = headRows(lifter, readHeads(x, at, shape), node.name);
  const index = new Int32Array(first!.index.length);
  for (let token = 0; token < probe.sequence; token++) {
    for (let head = 0; head < heads; head++) {
      for (let d = 0; d < size; d++) index[at(head, token, d)] = (token * heads + head) * size + d;
    }
  }
  const form: Form = { kind: "form", dims: x.dims, terms: [{ source: rows.node, index, factor: 1 }], factors: [] };
  // A cosine's magnitude is 1 but for rounding; what differs from it is good to about six digits.
  const factor = Math.abs(rows.factor - 1) < 1e-5 ? 1 : Number(rows.factor.toPrecision(6));
  return factor === 1 ? form : scaleForm(form, factor);
}

function headSource(source: number | Int32Array): number {
  return typeof source === "number" ? source : source[0]!;
}
