import type { CoreSpec } from "./specifications.ts";
import { factorAt, shapeOnly, sourceAt } from "./form.ts";
import { readHeads, type ElementAt } from "./heads.ts";
import type { Lifter } from "./lifter.ts";
import { recogniseMask, type MaskFinding } from "./mask.ts";
import { continuationNames } from "./probe.ts";
import { headRows } from "./lift-rotation.ts";
import {
  count,
  lazyKnown,
  Unliftable,
  type Form,
  type Known,
  type Probabilities,
  type Scores,
  type Value,
} from "./value.ts";

/** q·kᵀ: both sides depend on the text. What follows up to the product with v is gathered in the scores. */
export function scoresOf(node: { name: string }, query: Form, key: Form): Scores {
  const [sequence, size] = query.dims.slice(-2) as [number, number];
  const total = key.dims.at(-1)!;
  if (key.dims.at(-2) !== size || query.dims.length < 3)
    throw new Unliftable(
      node.name,
      `a product of [${query.dims.join(", ")}] and [${key.dims.join(", ")}] that is not attention`,
    );
  const dims = [...query.dims.slice(0, -2), sequence, total];
  return { kind: "scores", dims, query, key, scale: 1, softcap: null, bias: null, sinks: null, capped: false };
}

/** Probabilities × values closes the core. */
export function closeAttention(
  lifter: Lifter,
  node: { name: string },
  probabilities: Probabilities,
  value: Form,
): Form {
  const { scores } = probabilities;
  const heads = count(scores.dims.slice(0, -2));
  const dims = [...probabilities.dims.slice(0, -1), value.dims.at(-1)!];
  const mask = recogniseMask(scores, heads, lifter.probe, node.name);
  const [sequence, size] = scores.query.dims.slice(-2) as [number, number];
  const total = scores.dims.at(-1)!;
  if (total !== lifter.probe.past + lifter.probe.sequence || sequence !== lifter.probe.sequence)
    throw new Unliftable(node.name, "attention over other than the past and the new tokens");
  return attend(lifter, node.name, {
    query: { form: scores.query, heads, size, at: (head, s, d) => (head * sequence + s) * size + d },
    key: {
      form: scores.key,
      heads: count(scores.key.dims.slice(0, -2)),
      size,
      at: (head, t, d) => (head * size + d) * total + t,
    },
    value: {
      form: value,
      heads: count(value.dims.slice(0, -2)),
      size: value.dims.at(-1)!,
      at: (head, t, d) => (head * total + t) * value.dims.at(-1)! + d,
    },
    keysHoldPast: true,
    spec: { scale: scores.scale, softcap: scores.softcap, ...mask, sinks: scores.sinks },
    dims,
    outputAt: "heads first",
  });
}

export interface HeadsOperand {
  form: Form;
  heads: number;
  size: number;
  /** token is new for the query, past + new for keys and values that hold the past. */
  at: ElementAt;
}

export interface Attention {
  query: HeadsOperand;
  key: HeadsOperand;
  value: HeadsOperand;
  /** true: key and value run over past and new tokens; false: over new ones, the operator itself joins the past. */
  keysHoldPast: boolean;
  /** The past inputs, where the operator joins them itself: sources −1−i. */
  past?: { key: number; value: number };
  spec: Pick<CoreSpec, "scale" | "softcap" | "window" | "alibiSlopes" | "sinks"> &
    Partial<Pick<MaskFinding, "unordered">>;
  /** Dims of the output, and whether its heads lie before the tokens or inside each row. */
  dims: number[];
  outputAt: "heads first" | "in rows";
}

/** One attention core: finds what is cached, splits off the rotation, and adds q, k, v and core to the program. */
export function attend(lifter: Lifter, node: string, attention: Attention): Form {
  const { query, key, value, spec } = attention;
  const common = {
    unordered: spec.unordered === true,
    factors: [...query.form.factors, ...key.form.factors],
    node,
  };
  if (lifter.probe.shapesOnly) {
    const shape = { heads: query.heads, kvHeads: key.heads, headSize: query.size, valueHeadSize: value.size };
    const unread = { pastKey: 0, pastValue: 0, key: -1, value: -1, keyFactor: 1 };
    lifter.cores.push({ ...unread, spec: { ...shape, ...spec }, ...common });
    return shapeOnly(attention.dims);
  }
  const { q, k, v, pastKey, pastValue, kvHeads, scale } = readOperands(lifter, node, attention);
  const core: CoreSpec = {
    heads: query.heads,
    kvHeads,
    headSize: query.size,
    valueHeadSize: value.size,
    scale: tidy(spec.scale * scale),
    window: null,
    softcap: spec.softcap,
    alibiSlopes: spec.alibiSlopes,
    sinks: spec.sinks,
  };
  const layer = lifter.cores.length;
  const id = lifter.program.add({
    op: "core",
    inputs: [q.node, k.node, v.node],
    width: core.heads * core.valueHeadSize,
    attributes: { layer, core },
    weights: {},
  });
  lifter.cores.push({
    pastKey,
    pastValue,
    key: k.node,
    value: v.node,
    keyFactor: k.factor,
    spec: { ...core, window: spec.window },
    ...common,
  });
  return outputForm(attention, { source: id, core, sequence: lifter.probe.sequence });
}

/** The rows of queries and of new keys and values; `scale` is what lies on the scores besides the attention's own. */
function readOperands(lifter: Lifter, node: string, { query, key, value, keysHoldPast, past }: Attention) {
  const cachedKey = keysHoldPast ? cached(lifter, key, node) : { operand: key, past: past!.key, scale: 1 };
  const cachedValue = keysHoldPast ? cached(lifter, value, node) : { operand: value, past: past!.value, scale: 1 };
  const rowsOf = ({ form, at, heads, size }: HeadsOperand) => {
    const width = (source: number): number => lifter.program.width(source);
    const shape = { heads, size, sequence: lifter.probe.sequence, width, node };
    return headRows(lifter, readHeads(form, at, shape), node);
  };
  const [q, k, v] = [rowsOf(query), rowsOf(cachedKey.operand), rowsOf(cachedValue.operand)];
  if (v.rotated || Math.abs(v.factor - 1) > 1e-6 || Math.abs(cachedValue.scale - 1) > 1e-6)
    throw new Unliftable(node, "attention changes values on their way into the cache");
  const kvHeads = cachedKey.operand.heads;
  if (query.heads % kvHeads !== 0 || cachedValue.operand.heads !== kvHeads)
    throw new Unliftable(node, `${query.heads} query heads over ${kvHeads} key heads`);
  const scale = q.factor * k.factor * cachedKey.scale;
  return { q, k, v, pastKey: cachedKey.past, pastValue: cachedValue.past, kvHeads, scale };
}

function outputForm(
  { dims, outputAt }: Attention,
  { source, core, sequence }: { source: number; core: CoreSpec; sequence: number },
): Form {
  const size = core.valueHeadSize;
  const width = core.heads * size;
  const index = new Int32Array(sequence * width);
  for (let s = 0; s < sequence; s++) {
    for (let column = 0; column < width; column++) {
      const inHeads = (Math.floor(column / size) * sequence + s) * size + (column % size);
      index[outputAt === "in rows" ? s * width + column : inHeads] = s * width + column;
    }
  }
  return { kind: "form", dims, terms: [{ source, index, factor: 1 }], factors: [] };
}

/**
 * Keys (or values) over past and new tokens: the past part must be one cache input, element for element and each
 * head repeated for its group of queries; returns the new part, one operand per cached head.
 */
function cached(
  lifter: Lifter,
  operand: HeadsOperand,
  node: string,
): { operand: HeadsOperand; past: number; scale: number } {
  const { past } = lifter.probe;
  const [term] = operand.form.terms;
  if (term === undefined) throw new Error("heads are read only where elements are followed");
  const source = sourceAt(term, operand.at(0, 0, 0));
  if (source >= 0) throw new Unliftable(node, "attention without its cached keys or values");
  const { kvHeads, size, indexOf } = cacheLayout(lifter.past[-1 - source]!.dims, operand);
  const scale = factorAt(term, operand.at(0, 0, 0));
  const group = operand.heads / kvHeads;
  if (size !== operand.size || !Number.isInteger(group))
    throw new Unliftable(node, `${operand.heads} heads of ${operand.size} over a cache of ${kvHeads} heads of ${size}`);
  for (let head = 0; head < operand.heads; head++) {
    for (let t = 0; t < past; t++) {
      for (let d = 0; d < size; d++) {
        const at = operand.at(head, t, d);
        const expected = indexOf(Math.floor(head / group), t, d);
        if (sourceAt(term, at) !== source || term.index[at] !== expected || factorAt(term, at) !== scale)
          throw new Unliftable(node, "attention reads its cache in an unknown order");
      }
    }
  }
  const newOnly: HeadsOperand = {
    form: operand.form,
    heads: kvHeads,
    size,
    at: (head, s, d) => operand.at(head * group, past + s, d),
  };
  checkRepeats(operand, { group, past, sequence: lifter.probe.sequence, node });
  return { operand: scaledBack(newOnly, scale), past: source, scale };
}

/** Heads first, or tokens first with the heads side by side (static caches). */
function cacheLayout(
  dims: number[],
  operand: HeadsOperand,
): { kvHeads: number; size: number; indexOf: (head: number, t: number, d: number) => number } {
  if (dims.length === 3) {
    const width = dims[2]!;
    return {
      kvHeads: width / operand.size,
      size: operand.size,
      indexOf: (head, t, d) => t * width + head * operand.size + d,
    };
  }
  const [kvHeads, past, size] = dims.slice(-3) as [number, number, number];
  return { kvHeads, size, indexOf: (head, t, d) => (head * past + t) * size + d };
}

function checkRepeats(
  operand: HeadsOperand,
  { group, past, sequence, node }: { group: number; past: number; sequence: number; node: string },
): void {
  for (const term of operand.form.terms) {
    for (let head = 0; head < operand.heads; head++) {
      for (let s = 0; s < sequence; s++) {
        for (let d = 0; d < operand.size; d++) {
          const own = operand.at(head, past + s, d);
          const first = operand.at(Math.floor(head / group) * group, past + s, d);
          if (term.index[own] !== term.index[first] || factorAt(term, own) !== factorAt(term, first))
            throw new Unliftable(node, "the heads of a group read different keys");
        }
      }
    }
  }
}

function scaledBack(operand: HeadsOperand, scale: number): HeadsOperand {
  if (scale === 1) return operand;
  const terms = operand.form.terms.map((term) => ({
    ...term,
    factor: typeof term.factor === "number" ? term.factor / scale : term.factor.map((each) => each / scale),
  }));
  return { ...operand, form: { ...operand.form, terms } };
}

/**
 * Scales arrive as products of rounded square roots and of cosines' magnitudes, good to about six digits. Nearly all
 * are 1/√n; the exact value is taken when it is within rounding.
 */
function tidy(scale: number): number {
  const n = Math.round(1 / (scale * scale));
  const exact = n === 0 ? 0 : 1 / Math.sqrt(n);
  return Math.fround(Math.abs(scale - exact) < 3e-6 * scale ? exact : Number(scale.toPrecision(6)));
}

/** Rows of a table for the new tokens' positions, as the numbers a fused operator multiplies by. */
export function tableRows(lifter: Lifter, table: Known, positions: number[]): Known {
  const width = table.dims.at(-1)!;
  const consecutive = positions.every((position, i) => position === lifter.probe.past + i);
  const rows = lazyKnown([positions.length, width], "float", () => {
    const data = table.read();
    return Float64Array.from(
      positions.flatMap((position) => Array.from(data.subarray(position * width, (position + 1) * width))),
    );
  });
  return { ...rows, table: consecutive && table.weight !== null ? { weight: table.weight, offset: 0 } : null };
}

function headsFirstOutput(form: Form): { operand: HeadsOperand; total: number } {
  const [, heads, total, size] = form.dims as [number, number, number, number];
  return { operand: { form, heads, size, at: (head, t, d) => (head * total + t) * size + d }, total };
}

/** [1, tokens, heads × size]: the core that reads the same past says how wide a head is. */
function tokensFirstOutput(lifter: Lifter, name: string, form: Form): { operand: HeadsOperand; total: number } {
  const [, total, width] = form.dims as [number, number, number];
  const source = form.terms[0] === undefined ? 0 : sourceAt(form.terms[0], 0);
  const core = lifter.cores.find(({ pastKey, pastValue }) => pastKey === source || pastValue === source);
  if (core === undefined) throw new Unliftable(name, "a key-value output that no attention reads");
  const heads = core.spec.kvHeads;
  const size = width / heads;
  return { operand: { form, heads, size, at: (head, t, d) => t * width + head * size + d }, total };
}

/** A key-value output must be the past followed by exactly the rows that the core caches; otherwise decoding would drift. */
export function checkPresent(lifter: Lifter, name: string, value: Value): void {
  if (value.kind === "present") {
    const { pastKey, pastValue } = lifter.cores[value.core]!;
    checkContinues(lifter, name, value.which === "key" ? pastKey : pastValue);
    return;
  }
  if (value.kind !== "form" || (value.dims.length !== 4 && value.dims.length !== 3))
    throw new Unliftable(name, "an output that is neither logits nor a key-value cache");
  const { operand, total } = value.dims.length === 4 ? headsFirstOutput(value) : tokensFirstOutput(lifter, name, value);
  const { heads, size } = operand;
  if (total !== lifter.probe.past + lifter.probe.sequence)
    throw new Unliftable(name, "a key-value output without the past");
  const { operand: fresh, past, scale } = cached(lifter, operand, name);
  checkContinues(lifter, name, past);
  const core = lifter.cores.find(({ pastKey, pastValue }) => pastKey === past || pastValue === past);
  if (core === undefined || scale !== 1) throw new Unliftable(name, "a key-value output that no attention reads");
  const shape = {
    heads,
    size,
    sequence: lifter.probe.sequence,
    width: (source: number) => lifter.program.width(source),
    node: name,
  };
  const rows = headRows(lifter, readHeads(fresh.form, fresh.at, shape), name);
  const [cachedRows, factor] = core.pastKey === past ? [core.key, core.keyFactor] : [core.value, 1];
  if (rows.node !== cachedRows || Math.abs(rows.factor - factor) > 1e-6)
    throw new Unliftable(name, "the cache holds other rows than attention uses");
}

/** Callers feed an output back by its name: one that holds what another past input becomes would change the model. */
function checkContinues(lifter: Lifter, output: string, past: number): void {
  const named = lifter.past.findIndex(({ name }) => continuationNames(name).includes(output));
  if (named >= 0 && named !== -1 - past)
    throw new Unliftable(output, `an output that continues ${lifter.past[-1 - past]!.name}`);
}
