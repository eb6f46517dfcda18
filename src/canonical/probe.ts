import type { OnnxModel, ValueInfo } from "../onnx/model.ts";
import { known, Unliftable, type Value } from "./value.ts";
import type { RowProgram } from "./rows.ts";

/**
 * A point at which the graph is followed: batch 1, so many cached tokens, so many new ones. Lifting at two points
 * must give the same program; what depends on the point by more than it should shows as a difference.
 */
export interface Probe {
  past: number;
  sequence: number;
  /** Follow only shapes and numbers, not where each element comes from: for pasts as long as the context. */
  shapesOnly: boolean;
}

/** What the files beside the graph say; all optional, all checked against the graph. */
export interface ModelHints {
  headSize: number | null;
  contextLength: number | null;
}

/** How a graph input is fed. */
export interface InputRole {
  name: string;
  role: "ids" | "mask" | "positions" | "past" | "state" | "past length" | "total length" | "constant";
  value?: number;
}

export interface PastInput {
  name: string;
  /** At this probe: [1, heads, past, width], or [2, 1, heads, past, width] for keys and values together; a static cache [1, past, heads × width]. */
  dims: number[];
}

/** Sorts the graph's inputs by what they are for: names first, element type and rank where names say nothing. */
export function inputRoles(model: OnnxModel): InputRole[] {
  const { inputs, initializers } = model.graph;
  for (const { name } of inputs) {
    const foreign = FOREIGN.find(({ input }) => input.test(name));
    if (foreign !== undefined && !initializers.has(name)) throw new Unliftable(name, foreign.reason);
  }
  return inputs.filter(({ name }) => !initializers.has(name)).map((input) => ({ name: input.name, ...roleOf(input) }));
}

/** Inputs by which a graph shows that it is no decoder of tokens by itself. */
const FOREIGN = [
  { input: /^input_features$/i, reason: "an encoder of sound: it takes no tokens" },
  {
    input: /^encoder_|_encoder_|\.encoder\./i,
    reason: "the decoder of an encoder-decoder: it reads what an encoder gives",
  },
  { input: /inputs?_embeds/i, reason: "it takes embeddings instead of token ids: its embedding was left out" },
  { input: /block_table|cumulative_seq/i, reason: "a graph for paged attention, which only a GPU's runtime can drive" },
];

function roleOf(input: ValueInfo): Omit<InputRole, "name"> {
  const rank = input.dims?.length ?? 0;
  const floating = input.dtype === "float32" || input.dtype === "float16" || input.dtype === "bfloat16";
  if (/position/i.test(input.name) && rank > 2)
    throw new Unliftable(input.name, `positions of ${rank} axes (of images or video), where a token has one`);
  if (/position/i.test(input.name)) return { role: "positions" };
  if (/mask/i.test(input.name)) return { role: "mask" };
  if (/use_cache/i.test(input.name)) return { role: "constant", value: 1 };
  if (/logits_to_keep/i.test(input.name)) return { role: "constant", value: 0 };
  if (/ids/i.test(input.name) && rank === 2) return { role: "ids" };
  // Of a convolution or a recurrence: as large whatever was read. Read before caches, which may be of the same rank.
  const fixed = input.dims?.slice(1).every((dim) => typeof dim === "number") === true;
  if (floating && rank >= 3 && fixed && /conv|recurrent|ssm|state/i.test(input.name)) return { role: "state" };
  if (floating && (rank === 4 || (rank === 5 && /past/i.test(input.name)))) return { role: "past" };
  if (isQuantised(input) && rank === 4 && /past|cache/i.test(input.name)) return { role: "past" };
  if (floating && rank === 3 && /cache/i.test(input.name)) return { role: "past" };
  if (/write_ind/i.test(input.name)) return { role: "past length" };
  if (/nonpad_kv/i.test(input.name)) return { role: "total length" };
  throw new Unliftable(input.name, `graph input ${input.name} (${input.dtype}, rank ${rank}) has no known role`);
}

function isQuantised({ dtype }: ValueInfo): boolean {
  return dtype === "int8" || dtype === "uint8";
}

/** The names under which exporters give back what this past input becomes. */
export function continuationNames(past: string): string[] {
  return [
    past.replace("past_key_values", "present"),
    past.replace("past", "present"),
    past.replace("past_key_values", "present_key_values"),
    `updated_${past}`,
  ].filter((name) => name !== past);
}

/** The values of all graph inputs at `probe`; past inputs get source −1−i in the order of `past`. */
export function feedInputs(
  model: OnnxModel,
  probe: Probe,
  options: { program: RowProgram; hints: ModelHints },
): { values: Map<string, Value>; past: PastInput[] } {
  const { past, sequence } = probe;
  const values = new Map<string, Value>();
  const pastInputs: PastInput[] = [];
  const byName = new Map(model.graph.inputs.map((input) => [input.name, input]));
  for (const { name, role, value } of inputRoles(model)) {
    const dims = byName.get(name)!.dims;
    if (role === "ids") {
      const node = options.program.add({ op: "ids", inputs: [], width: 1, attributes: {}, weights: {} });
      values.set(name, wholeSource(node, [1, sequence], probe));
    } else if (role === "mask") {
      values.set(name, known([1, past + sequence], "int", new Float64Array(past + sequence).fill(1)));
    } else if (role === "positions") {
      values.set(
        name,
        known(
          [1, sequence],
          "int",
          Float64Array.from({ length: sequence }, (_, i) => past + i),
        ),
      );
    } else if (role === "past length" || role === "total length") {
      values.set(name, known([1], "int", Float64Array.of(role === "past length" ? past : past + sequence)));
    } else if (role === "constant") {
      const scalar = dims?.length === 0 ? [] : [1];
      values.set(name, known(scalar, byName.get(name)!.dtype === "bool" ? "bool" : "int", Float64Array.of(value!)));
    } else if (role === "state") {
      throw new Unliftable(name, "a state that is no cache of keys and values (a convolution or a recurrence)");
    } else if (isQuantised(byName.get(name)!)) {
      throw new Unliftable(name, "a quantised key-value cache");
    } else {
      const full = pastDims(byName.get(name)!, { past, headSize: options.hints.headSize });
      values.set(name, wholeSource(-1 - pastInputs.length, full, probe));
      pastInputs.push({ name, dims: full });
    }
  }
  if (!Array.from(values.values()).some((value) => value.kind === "form"))
    throw new Unliftable("inputs", "no token ids input");
  if (pastInputs.length === 0)
    throw new Unliftable("inputs", "no past key-value inputs: the graph cannot continue a sequence");
  return { values, past: pastInputs };
}

/** [1, heads, past, width]; [1, past, heads × width] where tokens come first; [2, 1, heads, past, width] where one input holds keys and values. */
function pastDims({ name, dims }: ValueInfo, { past, headSize }: { past: number; headSize: number | null }): number[] {
  // A static cache is followed as if it were just as long as what it holds.
  if (dims?.length === 3 && typeof dims[2] === "number") return [1, past, dims[2]];
  const [heads, width] = [dims?.at(-3), typeof dims?.at(-1) === "number" ? dims.at(-1) : headSize];
  if (typeof heads !== "number" || typeof width !== "number")
    throw new Unliftable(
      name,
      `the size of a head of ${name} is given neither in the graph nor in a configuration file`,
    );
  return [...(dims!.length === 5 ? [2, 1] : [1]), heads, past, width];
}

/** Layers that so many past inputs of keys and values belong to. */
export function layersOf(past: readonly { dims: readonly unknown[] }[]): number {
  return past.reduce((sum, { dims }) => sum + (dims.length === 5 ? 1 : 0.5), 0);
}

/** Every element of a source, in order. */
function wholeSource(source: number, dims: number[], probe: Probe): Value {
  if (probe.shapesOnly) return { kind: "form", dims, terms: [], factors: [] };
  const length = dims.reduce((product, dim) => product * dim, 1);
  return {
    kind: "form",
    dims,
    terms: [{ source, index: Int32Array.from({ length }, (_, i) => i), factor: 1 }],
    factors: [],
  };
}
