import type { CanonicalModel } from "../canonical/canonicalise.ts";
import { beforeRounding } from "../canonical/round-halves.ts";
import type { RowNode, RowProgram } from "../canonical/rows.ts";
import { Unliftable } from "../canonical/value.ts";
import type { BlockKind, CoreSpec, PortName } from "./block.ts";

/** A block before its weights are stored. */
export interface CutBlock {
  kind: Exclude<BlockKind, "opaque">;
  layer: number | null;
  parts: CutPart[];
  core: CoreSpec | null;
  /** The row nodes whose rotation the attention `in` part applies; one specification per block. */
  rotary: RowNode | null;
}

/** A part of the row program between named rows. */
export interface CutPart {
  role: "main" | "in" | "out";
  /** Row node → port it comes in by. */
  inputs: Map<number, PortName>;
  outputs: { port: PortName; node: number }[];
}

/** `module`: attention and MLP are blocks of their own; `layer`: one block per layer, the MLP in its out part. */
export type Granularity = "module" | "layer";

/**
 * Cuts a decoder at the attention cores and at the residual stream: embedding, then per layer attention (in, core,
 * out) and MLP, then head. Exactly one row crosses each cut. Where attention and MLP run in parallel, the MLP belongs
 * to the attention's out part. Throws `Unliftable` when more than one row would have to cross.
 */
export function cutModel({ program, logits, cores }: CanonicalModel, granularity: Granularity = "module"): CutBlock[] {
  const layers = cores.map((core) => program.node(core));
  const residuals = layers.map((core, layer) => residualInto(program, { core, coreId: cores[layer]!, logits }));
  const blocks: CutBlock[] = [
    single("embedding", null, { program, output: residuals[0]!, port: "hidden_out", stops: [] }),
  ];
  layers.forEach((core, layer) => {
    const hidden = residuals[layer]!;
    const stops = [hidden, cores[layer]!];
    const tail = residuals[layer + 1];
    const mids = separators(program, { target: tail ?? logits, stops, after: cores[layer]! });
    const residualSum = mids[0] ?? tail ?? logits;
    const afterMlp = tail ?? lastResidualSum(program, [hidden, ...mids]) ?? residualSum;
    const afterAttention = granularity === "layer" ? afterMlp : residualSum;
    blocks.push(attention(program, { core, coreId: cores[layer]!, layer, hidden, output: afterAttention }));
    if (afterMlp !== afterAttention)
      blocks.push(single("mlp", layer, { program, output: afterMlp, port: "hidden_out", stops: [afterAttention] }));
    if (tail === undefined)
      blocks.push(single("head", null, { program, output: logits, port: "logits", stops: [afterMlp] }));
  });
  return blocks;
}

interface Cut {
  program: RowProgram;
  output: number;
  port: PortName;
  /** The row that comes in by `hidden`; none for the embedding. */
  stops: number[];
}

function single(
  kind: "embedding" | "mlp" | "head",
  layer: number | null,
  { program, output, port, stops }: Cut,
): CutBlock {
  const inputs = new Map<number, PortName>(stops.map((id) => [id, "hidden"]));
  const reached = nodesBetween(program, [output], new Set(stops));
  if (kind === "embedding") inputs.set(idsNode(program, reached), "ids");
  else refuseIds(program, reached, kind);
  return {
    kind,
    layer,
    parts: [{ role: "main", inputs, outputs: [{ port, node: output }] }],
    core: null,
    rotary: null,
  };
}

function attention(
  program: RowProgram,
  {
    core,
    coreId,
    layer,
    hidden,
    output,
  }: { core: RowNode; coreId: number; layer: number; hidden: number; output: number },
): CutBlock {
  const [q, k, v] = core.inputs as [number, number, number];
  const inNodes = nodesBetween(program, [q, k, v], new Set([hidden]));
  const outNodes = nodesBetween(program, [output], new Set([hidden, coreId]));
  refuseIds(program, inNodes, "attention");
  refuseIds(program, outNodes, "attention");
  const rotations = Array.from(inNodes, (id) => program.node(id)).filter((node) => node.op === "rotary");
  const [rotary = null] = rotations;
  if (rotations.some((each) => JSON.stringify(each.attributes.rotary) !== JSON.stringify(rotary?.attributes.rotary)))
    throw new Unliftable(`layer ${layer}`, "queries and keys rotate differently");
  return {
    kind: "attention",
    layer,
    parts: [
      {
        role: "in",
        inputs: new Map([[hidden, "hidden"]]),
        outputs: [
          { port: "q", node: q },
          { port: "k", node: k },
          { port: "v", node: v },
        ],
      },
      {
        role: "out",
        inputs: new Map<number, PortName>([
          [hidden, "hidden"],
          [coreId, "o"],
        ]),
        outputs: [{ port: "hidden_out", node: output }],
      },
    ],
    core: core.attributes.core!,
    rotary,
  };
}

/**
 * The row that enters a layer: of the rows that both feed q, k, v and are used again after the core, the first, from
 * which all the others are made.
 */
function residualInto(
  program: RowProgram,
  { core, coreId, logits }: { core: RowNode; coreId: number; logits: number },
): number {
  const feeding = nodesBetween(program, core.inputs, new Set());
  const needed = nodesBetween(program, [logits], new Set());
  const crossing = new Set<number>();
  for (const id of needed) {
    if (id === coreId || feeding.has(id)) continue;
    for (const input of program.node(id).inputs) if (feeding.has(input) && input !== coreId) crossing.add(input);
  }
  const [first] = [...crossing]
    .toSorted((a, b) => a - b)
    .filter((id) => separates(program, { id, from: core.inputs, stops: new Set() }));
  if (first === undefined) throw new Unliftable(`layer ${core.attributes.layer}`, "no single row enters this layer");
  return first;
}

/** Whether everything `from` needs goes through `id`, ids and earlier cores included. */
function separates(
  program: RowProgram,
  { id, from, stops }: { id: number; from: number[]; stops: Set<number> },
): boolean {
  const reached = nodesBetween(program, from, new Set([...stops, id]));
  return ![...reached].some(
    (each) => ["ids", "core"].includes(program.node(each).op) || program.node(each).op === "embed",
  );
}

/** Rows after a core through which everything up to `target` passes, in order; the target itself is not one. */
function separators(
  program: RowProgram,
  { target, stops, after }: { target: number; stops: number[]; after: number },
): number[] {
  const between = nodesBetween(program, [target], new Set(stops));
  const downstream = new Set<number>([after]);
  const ascending = [...between].toSorted((a, b) => a - b);
  for (const id of ascending) if (program.node(id).inputs.some((input) => downstream.has(input))) downstream.add(id);
  const candidates = ascending.filter((id) => downstream.has(id) && id !== target);
  return candidates.filter((id) => {
    const rest = nodesBetween(program, [target], new Set([id, ...stops]), { includeStops: true });
    return !stops.some((stop) => rest.has(stop));
  });
}

/** The head begins after the last sum that adds to the residual stream. */
function lastResidualSum(program: RowProgram, stream: number[]): number | undefined {
  return stream.findLast((id, i) => {
    const node = program.node(id);
    return (
      i > 0 &&
      node.op === "binary" &&
      node.attributes.function === "Add" &&
      node.inputs.some((input) => stream.slice(0, i).includes(beforeRounding(program, input)))
    );
  });
}

/** Every node needed for `outputs`, not going past `stops`. */
function nodesBetween(
  program: RowProgram,
  outputs: number[],
  stops: Set<number>,
  { includeStops = false } = {},
): Set<number> {
  const seen = new Set<number>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const id = stack.pop()!;
    if (seen.has(id)) continue;
    if (stops.has(id)) {
      if (includeStops) seen.add(id);
      continue;
    }
    seen.add(id);
    stack.push(...program.node(id).inputs);
  }
  return seen;
}

function idsNode(program: RowProgram, reached: Set<number>): number {
  const id = [...reached].find((each) => program.node(each).op === "ids");
  if (id === undefined) throw new Unliftable("embedding", "the first layer does not depend on the token ids");
  return id;
}

function refuseIds(program: RowProgram, reached: Set<number>, kind: string): void {
  for (const id of reached) {
    const { op } = program.node(id);
    if (op === "ids" || op === "core" || op === "embed")
      throw new Unliftable(`row node ${id}`, `more than the residual row reaches this ${kind}`);
  }
}
