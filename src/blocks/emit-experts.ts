import { gateOf } from "../canonical/fold-routing.ts";
import type { RowNode, RowProgram } from "../canonical/rows.ts";
import type { CutPart } from "./cut-model.ts";
import { emitNode } from "./emit-node.ts";
import { add, fresh, int, integers, type Emitter } from "./emitter.ts";
import { filled } from "./emit-routing.ts";

/** A node of a part with its operands in canonical order. */
export interface OrderedNode {
  id: number;
  inputs: number[];
}

/** One term of a mixture: computed only for the tokens whose gate is not 0. */
export interface ExpertTerm {
  term: number;
  gate: number;
  value: number;
  /** Nodes that nothing else needs, in order. */
  inner: OrderedNode[];
}

/** The experts of each mixture of a part. What is inside one is emitted with it (`emitMixture`). */
export function findExperts(program: RowProgram, ordered: OrderedNode[], part: CutPart): Map<number, ExpertTerm[]> {
  const users = new Map<number, number[]>();
  for (const { id, inputs } of ordered) for (const input of inputs) users.set(input, [...(users.get(input) ?? []), id]);
  const leaves = new Set(part.outputs.map(({ node }) => node));
  const found = new Map<number, ExpertTerm[]>();
  for (const { id, inputs } of ordered) {
    if (program.node(id).op !== "mixture") continue;
    const terms = inputs.map((term) => {
      const { gate, value } = gateOf(program, term)!;
      const own = new Set([term]);
      // Users come behind what they use.
      for (const { id: each } of ordered.toReversed()) {
        const used = users.get(each);
        const inside = each !== gate && each !== id && !leaves.has(each) && used?.every((user) => own.has(user));
        if (inside === true && !isGate(program, each)) own.add(each);
      }
      own.delete(term);
      return { term, gate, value, inner: ordered.filter((each) => own.has(each.id)) };
    });
    found.set(id, terms);
  }
  return found;
}

/** Routing belongs to all experts, also where one alone uses a piece of it. */
function isGate(program: RowProgram, id: number): boolean {
  const { op, inputs } = program.node(id);
  return op === "spread" || (op === "columns" && program.node(inputs[0]!).op === "spread");
}

export interface Mixture {
  id: number;
  terms: ExpertTerm[];
  names: Map<number, string>;
  output: string | null;
}

/**
 * Σ gate · expert(x): each expert runs on the rows of its own tokens, which are then added where they belong. The result
 * of a row does not depend on which other rows there are, as long as the projections' does not.
 */
export function emitMixture(emitter: Emitter, program: RowProgram, { id, terms, names, output }: Mixture): string {
  const width = program.width(id);
  const name = fresh(emitter, "mixture");
  const gates = terms.map(({ gate }) => names.get(gate)!);
  const dims = add(emitter, {
    opType: "Shape",
    inputs: [gates[0]!],
    output: `${name}.tokens`,
    attributes: { end: int(2) },
  });
  const shape = add(emitter, {
    opType: "Concat",
    inputs: [dims, integers(emitter, `${name}.width`, [width])],
    output: `${name}.shape`,
    attributes: { axis: int(0) },
  });
  const zeros = filled(emitter, { shape, value: 0, output: `${name}.zeros` });
  return terms.reduce((sum, term, i) => {
    const last = i === terms.length - 1;
    return addExpert(emitter, program, {
      ...term,
      sum,
      names,
      width,
      name: `${name}.${i}`,
      output: last ? (output ?? name) : `${name}.${i}.sum`,
    });
  }, zeros);
}

interface Addition extends ExpertTerm {
  sum: string;
  names: Map<number, string>;
  width: number;
  name: string;
  output: string;
}

function addExpert(
  emitter: Emitter,
  program: RowProgram,
  { gate, value, inner, sum, names, name, output }: Addition,
): string {
  const node = (opType: string, inputs: string[], label: string, axis?: number): string =>
    add(emitter, {
      opType,
      inputs,
      output: `${name}.${label}`,
      attributes: axis === undefined ? {} : { axis: int(axis) },
    });
  // The gates are [1, N, 1]: coordinates (0, token, 0).
  const found = node("NonZero", [names.get(gate)!], "found");
  const tokens = node("Gather", [found, index(emitter, 1)], "tokens", 0);
  const coordinates = node("Transpose", [found], "coordinates");
  const places = node(
    "Slice",
    [
      coordinates,
      ...["start", "end", "axis"].map((label, i) => integers(emitter, `places.${label}`, [[0], [2], [1]][i]!)),
    ],
    "places",
  );
  const chosen = new Map<number, string>();
  const rowOf = (id: number): string => {
    const known = chosen.get(id);
    if (known !== undefined) return known;
    const picked = node("Gather", [names.get(id)!, tokens], `rows${chosen.size}`, 1);
    chosen.set(id, picked);
    return picked;
  };
  for (const { id, inputs } of inner) {
    const given = inputs.map(rowOf);
    chosen.set(id, emitInner(emitter, program, { ...program.node(id), inputs }, given));
  }
  const share = rowOf(gate);
  const weighted = node("Mul", [rowOf(value), share], "weighted");
  const rows = node("Squeeze", [weighted, integers(emitter, "axis0", [0])], "rows");
  return add(emitter, {
    opType: "ScatterND",
    inputs: [sum, places, rows],
    output,
    attributes: { reduction: { kind: "string", value: "add" } },
  });
}

/** An adapter's rows are all tokens': inside an expert its factors stay in the graph. */
function emitInner(emitter: Emitter, program: RowProgram, node: RowNode, inputs: string[]): string {
  const widths = node.inputs.map((input) => program.width(input));
  const { down, up, ...weights } = node.weights;
  if (down === undefined) return emitNode(emitter, node, { inputs, widths, output: null });
  const { adapterScale, ...attributes } = node.attributes;
  const base = emitNode(emitter, { ...node, weights, attributes }, { inputs, widths, output: null });
  const rank = down.dims[1]!;
  const plain = { ...node, attributes: {} };
  const low = emitNode(emitter, { ...plain, width: rank, weights: { weight: down } }, { inputs, widths, output: null });
  const added = emitNode(
    emitter,
    { ...plain, weights: { weight: up! } },
    { inputs: [low], widths: [rank], output: null },
  );
  const scaled = emitNode(
    emitter,
    { ...plain, op: "scalar", weights: {}, attributes: { function: "Mul", value: adapterScale! } },
    { inputs: [added], widths: [node.width], output: null },
  );
  return emitNode(
    emitter,
    { ...plain, op: "binary", weights: {}, attributes: { function: "Add" } },
    { inputs: [base, scaled], widths: [node.width, node.width], output: null },
  );
}

/** A number alone, not a list of one: Gather takes its axis away. */
function index(emitter: Emitter, value: number): string {
  const name = `index${value}`;
  const bytes = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
  emitter.constants.set(name, { name, dtype: "int64", dims: [], data: { kind: "bytes", bytes } });
  return name;
}
