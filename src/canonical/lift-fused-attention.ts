import type { GraphNode } from "../onnx/model.ts";
import { isShapeOnly, moveForms, shapeOnly } from "./form.ts";
import { attend, tableRows, type HeadsOperand } from "./lift-attention.ts";
import { addToScores, hideScores } from "./lift-scores.ts";
import { normOf } from "./lift-norm.ts";
import { formAt, knownAt, optionalKnown, optionalValue, type Lift, type Lifter } from "./lifter.ts";
import { recogniseMask, type MaskFinding } from "./mask.ts";
import { concatenation, floatAttribute, intAttribute, positive } from "./movement.ts";
import { count, integers, Unliftable, type Form, type Known, type Present, type Scores, type Value } from "./value.ts";

/** RotaryEmbedding of ai.onnx (opset 23) and com.microsoft, written out as what it multiplies by. */
export const liftRotaryEmbedding: Lift = (lifter, node) => {
  const x = formAt(lifter, node, 0);
  const contrib = node.domain === "com.microsoft";
  const [cosInput, sinInput, positionsInput] = contrib ? [2, 3, 1] : [1, 2, 3];
  const given = optionalKnown(lifter, node, positionsInput);
  const rows = (input: number): Known => {
    const table = knownAt(lifter, node, input);
    if (given === null) return { ...table, dims: [count(table.dims) / table.dims.at(-1)!, table.dims.at(-1)!] };
    const start = integers(given);
    return tableRows(
      lifter,
      table,
      start.length === 1 ? Array.from({ length: lifter.probe.sequence }, (_, s) => start[0]! + s) : start,
    );
  };
  const headsFirst = x.dims.length === 4;
  const heads = headsFirst ? x.dims[1]! : intAttribute(node, "num_heads", 0);
  const cos = rows(cosInput);
  const size = headsFirst ? x.dims[3]! : heads > 0 ? x.dims.at(-1)! / heads : cos.dims[1]! * 2;
  return [
    rotate(lifter, x, {
      cos,
      sin: rows(sinInput),
      size,
      headsFirst,
      interleaved: intAttribute(node, "interleaved", 0) === 1,
    }),
  ];
};

interface Rotation {
  cos: Known;
  sin: Known;
  size: number;
  headsFirst: boolean;
  interleaved: boolean;
}

function rotate(lifter: Lifter, x: Form, { cos, sin, size, headsFirst, interleaved }: Rotation): Form {
  const factors = [...x.factors, cos, sin];
  if (isShapeOnly(x)) return shapeOnly(x.dims, factors);
  const [term] = x.terms;
  const half = cos.dims[1]!;
  const dim = half * 2;
  const length = term!.index.length;
  const perToken = length / lifter.probe.sequence;
  const c = cos.read();
  const s = sin.read();
  const scale = typeof term!.factor === "number" ? term!.factor : 1;
  const direct = new Float64Array(length).fill(scale);
  const crossed = new Float64Array(length);
  const partner = new Int32Array(length).fill(-1);
  for (let i = 0; i < length; i++) {
    const d = i % size;
    if (d >= dim) continue;
    const token = headsFirst ? Math.floor(i / size) % lifter.probe.sequence : Math.floor(i / perToken);
    const pair = interleaved ? d >> 1 : d % half;
    const upper = interleaved ? d % 2 === 1 : d >= half;
    const other = i - d + (interleaved ? d ^ 1 : (d + half) % dim);
    direct[i] = c[token * half + pair]! * scale;
    crossed[i] = (upper ? 1 : -1) * s[token * half + pair]! * scale;
    partner[i] = term!.index[other]!;
  }
  return {
    kind: "form",
    dims: x.dims,
    terms: [
      { ...term!, factor: direct },
      { source: term!.source, index: partner, factor: crossed },
    ],
    factors,
  };
}

/** com.microsoft.GroupQueryAttention, packed or not, with or without its own rotary embedding. */
export const liftGroupQueryAttention: Lift = (lifter, node) => {
  const heads = intAttribute(node, "num_heads", 0);
  const kvHeads = intAttribute(node, "kv_num_heads", heads);
  const packed = formAt(lifter, node, 0);
  const separate = optionalValue(lifter, node, 1) !== null;
  const size = packed.dims[2]! / (separate ? heads : heads + 2 * kvHeads);
  refuseUnknown(lifter, node);
  const q = part(lifter, packed, { start: 0, heads, size });
  const k = separate
    ? part(lifter, formAt(lifter, node, 1), { start: 0, heads: kvHeads, size })
    : part(lifter, packed, { start: heads * size, heads: kvHeads, size });
  const v = separate
    ? part(lifter, formAt(lifter, node, 2), { start: 0, heads: kvHeads, size })
    : part(lifter, packed, { start: (heads + kvHeads) * size, heads: kvHeads, size });
  const rotates = intAttribute(node, "do_rotary", 0) === 1;
  const turned = (form: Form): Form => (rotates ? rotate(lifter, form, ownRotation(lifter, node, size)) : form);
  const sinks = optionalKnown(lifter, node, 11);
  const localWindow = intAttribute(node, "local_window_size", -1);
  const softcap = floatAttribute(node, "softcap", 0);
  const bias = optionalKnown(lifter, node, 10);
  const mask =
    bias === null
      ? { window: null, alibiSlopes: null, unordered: false }
      : maskFinding(lifter, node, { heads, bias, causal: true });
  return fused(lifter, node, {
    operands: [
      { form: turned(ownNorm(lifter, node, { x: q, input: 14, size })), heads, size, at: inRows(heads, size) },
      {
        form: turned(ownNorm(lifter, node, { x: k, input: 15, size })),
        heads: kvHeads,
        size,
        at: inRows(kvHeads, size),
      },
      { form: v, heads: kvHeads, size, at: inRows(kvHeads, size) },
    ],
    pastInputs: [3, 4],
    spec: {
      scale: floatAttribute(node, "scale", 0) || 1 / Math.sqrt(size),
      softcap: softcap === 0 ? null : softcap,
      window: localWindow > 0 ? localWindow : mask.window,
      alibiSlopes: mask.alibiSlopes,
      sinks: sinks === null ? null : Array.from(sinks.read()),
    },
    dims: [1, lifter.probe.sequence, heads * size],
  });
};

/** q and k norm inside the operator (its inputs 14 and 15): an RMS norm of each head before the rotation. */
function ownNorm(lifter: Lifter, node: GraphNode, { x, input, size }: { x: Form; input: number; size: number }): Form {
  const weight = optionalKnown(lifter, node, input);
  if (weight === null) return x;
  const epsilon = floatAttribute(node, "qk_norm_epsilon", 1e-6);
  const heads = [1, lifter.probe.sequence, x.dims[2]! / size, size];
  return {
    ...normOf(lifter, node, { x: { ...x, dims: heads }, weight, bias: null, epsilon, kind: "rms" }),
    dims: x.dims,
  };
}

function refuseUnknown(lifter: Lifter, node: GraphNode): void {
  if (intAttribute(node, "smooth_softmax", 0) === 1 && optionalValue(lifter, node, 11) === null)
    throw new Unliftable(node.name, "a softmax with an extra zero");
  if (optionalValue(lifter, node, 12) !== null) throw new Unliftable(node.name, "a quantised key-value cache");
  const lengths = knownAt(lifter, node, 5).read();
  if (lengths.some((length) => length !== lifter.probe.past + lifter.probe.sequence - 1))
    throw new Unliftable(node.name, "sequence lengths that are not the past and the new tokens");
}

function ownRotation(lifter: Lifter, node: GraphNode, size: number): Rotation {
  const given = optionalKnown(lifter, node, 9);
  const positions =
    given === null ? Array.from({ length: lifter.probe.sequence }, (_, s) => lifter.probe.past + s) : integers(given);
  const rows = (input: number): Known => tableRows(lifter, knownAt(lifter, node, input), positions);
  return {
    cos: rows(7),
    sin: rows(8),
    size,
    headsFirst: false,
    interleaved: intAttribute(node, "rotary_interleaved", 0) === 1,
  };
}

/** ai.onnx.Attention (opset 23 and 24), 3-D or 4-D, with past inputs or with keys that already hold the past. */
export const liftAttention: Lift = (lifter, node) => {
  if (node.domain !== "") throw new Unliftable(node.name, `${node.domain}.${node.opType}`);
  const forms = [0, 1, 2].map((input) => formAt(lifter, node, input)) as [Form, Form, Form];
  const [q, k, v] = forms;
  const headsFirst = q.dims.length === 4;
  const heads = headsFirst ? q.dims[1]! : intAttribute(node, "q_num_heads", 0);
  const kvHeads = headsFirst ? k.dims[1]! : intAttribute(node, "kv_num_heads", 0);
  const size = headsFirst ? q.dims[3]! : q.dims[2]! / heads;
  const valueSize = headsFirst ? v.dims[3]! : v.dims[2]! / kvHeads;
  const withPast = optionalValue(lifter, node, 4) !== null;
  const { past, sequence } = lifter.probe;
  const keys = withPast ? sequence : past + sequence;
  const length = optionalKnown(lifter, node, 6);
  if (length !== null && length.read()[0] !== past + sequence)
    throw new Unliftable(node.name, "a count of keys that is not the past and the new tokens");
  const causal = intAttribute(node, "is_causal", 0) === 1;
  if (causal && !withPast && length === null && past > 0)
    throw new Unliftable(node.name, "is_causal over keys that hold the past: aligned to the first key, not the last");
  const bias = optionalKnown(lifter, node, 3);
  const mask = maskFinding(lifter, node, { heads, bias, causal });
  const softcap = floatAttribute(node, "softcap", 0);
  const at = (count_: number, width: number, tokens: number): HeadsOperand["at"] =>
    headsFirst ? (head, t, d) => (head * tokens + t) * width + d : inRows(count_, width);
  return fused(lifter, node, {
    operands: [
      { form: q, heads, size, at: at(heads, size, sequence) },
      { form: k, heads: kvHeads, size, at: at(kvHeads, size, keys) },
      { form: v, heads: kvHeads, size: valueSize, at: at(kvHeads, valueSize, keys) },
    ],
    ...(withPast ? { pastInputs: [4, 5] as [number, number] } : {}),
    spec: {
      scale: floatAttribute(node, "scale", 0) || 1 / Math.sqrt(size),
      softcap: softcap === 0 ? null : softcap,
      ...mask,
      sinks: null,
    },
    dims: headsFirst ? [1, heads, sequence, valueSize] : [1, sequence, heads * valueSize],
  });
};

/** TensorScatter (opset 24) writes new rows behind the past of a static cache: followed as what the cache then holds. */
export const liftTensorScatter: Lift = (lifter, node) => {
  const [cache, fresh] = [formAt(lifter, node, 0), formAt(lifter, node, 1)];
  const at = optionalKnown(lifter, node, 2);
  const axis = positive(intAttribute(node, "axis", -2), cache.dims.length);
  const mode = node.attributes.get("mode");
  if (
    at?.read()[0] !== lifter.probe.past ||
    axis !== cache.dims.length - 2 ||
    (mode?.kind === "string" && mode.value !== "linear")
  )
    throw new Unliftable(node.name, "TensorScatter that does not append to the past");
  return [moveForms([cache, fresh], concatenation(axis, [cache.dims, fresh.dims]))];
};

export interface Fused {
  operands: [HeadsOperand, HeadsOperand, HeadsOperand];
  /** Missing: the keys and values hold the past already. */
  pastInputs?: [number, number];
  spec: Parameters<typeof attend>[2]["spec"];
  dims: number[];
}

export function fused(lifter: Lifter, node: GraphNode, { operands, pastInputs, spec, dims }: Fused): Value[] {
  const [query, key, value] = operands;
  const past =
    pastInputs === undefined
      ? undefined
      : { key: pastSource(lifter, node, pastInputs[0]), value: pastSource(lifter, node, pastInputs[1]) };
  const output = attend(lifter, node.name, {
    query,
    key,
    value,
    keysHoldPast: past === undefined,
    ...(past === undefined ? {} : { past }),
    spec,
    dims,
    outputAt: dims.length === 4 ? "heads first" : "in rows",
  });
  const core = lifter.cores.length - 1;
  const present = (which: "key" | "value", { heads, size }: HeadsOperand): Present => ({
    kind: "present",
    dims: [1, heads, lifter.probe.past + lifter.probe.sequence, size],
    core,
    which,
  });
  return [output, present("key", key), present("value", value)];
}

function pastSource(lifter: Lifter, node: GraphNode, input: number): number {
  const form = formAt(lifter, node, input);
  if (lifter.probe.shapesOnly) return -1;
  const source = form.terms[0]?.source;
  const whole = form.terms.length === 1 && form.terms[0]!.index.every((index, i) => index === i);
  if (typeof source !== "number" || source >= 0 || !whole)
    throw new Unliftable(node.name, `${node.opType} with a past that is not a graph input as it is`);
  return source;
}

export function maskFinding(
  lifter: Lifter,
  node: GraphNode,
  { heads, bias, causal }: { heads: number; bias: Known | null; causal: boolean },
): MaskFinding {
  const { past, sequence } = lifter.probe;
  const none: Form = shapeOnly([]);
  let scores: Scores = {
    kind: "scores",
    dims: [1, heads, sequence, past + sequence],
    query: none,
    key: none,
    scale: 1,
    softcap: null,
    bias: null,
    sinks: null,
    capped: false,
  };
  if (causal) {
    const data = Float64Array.from({ length: sequence * (past + sequence) }, (_, i) =>
      i % (past + sequence) > past + Math.floor(i / (past + sequence)) ? -Infinity : 0,
    );
    scores = { ...scores, bias: { dims: [sequence, past + sequence], data } };
  }
  if (bias !== null && bias.type === "bool") {
    const low: Known = {
      kind: "known",
      dims: [],
      type: "float",
      read: () => Float64Array.of(-Infinity),
      weight: null,
      table: null,
    };
    scores = hideScores(node, scores, { condition: bias, fill: low, hideWhere: 0 });
  } else if (bias !== null) scores = addToScores(node, scores, bias);
  return recogniseMask(scores, heads, lifter.probe, node.name);
}

/** Heads side by side in each token's row. */
export function inRows(heads: number, size: number): HeadsOperand["at"] {
  return (head, t, d) => (t * heads + head) * size + d;
}

/** Heads `start / size` and on of rows that hold several parts. */
export function part(
  lifter: Lifter,
  form: Form,
  { start, heads, size }: { start: number; heads: number; size: number },
): Form {
  const width = heads * size;
  const dims = [1, lifter.probe.sequence, width];
  if (isShapeOnly(form)) return shapeOnly(dims, form.factors);
  const whole = form.dims[2]!;
  const from = new Int32Array(lifter.probe.sequence * width);
  for (let s = 0, at = 0; s < lifter.probe.sequence; s++) {
    for (let column = 0; column < width; column++, at++) from[at] = s * whole + start + column;
  }
  return moveForms([form], { dims, from, input: null });
}
