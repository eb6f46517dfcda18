import { continuationNames, inputRoles, type ModelHints } from "../canonical/probe.ts";
import { Unliftable } from "../canonical/value.ts";
import type { OnnxModel, ValueInfo } from "../onnx/model.ts";
import { BlockllmError } from "../support/errors.ts";
import type { OpaqueSpec } from "./block.ts";

/**
 * How to drive a decoder whose inside was not understood: its inputs by role, each past input with the output that
 * becomes it. Throws `model_unsupported` for graphs that cannot continue a sequence at all.
 */
export function describeOpaque(model: OnnxModel, hints: ModelHints): OpaqueSpec {
  const { inputs, outputs } = model.graph;
  const byName = new Map(inputs.map((input) => [input.name, input]));
  const roles = rolesOrRefuse(model);
  const named = (role: string): string | null => roles.find((each) => each.role === role)?.name ?? null;
  const ids = named("ids");
  const logits = outputs.find(({ name }) => /logits/i.test(name));
  if (ids === null) throw refused("inputs", "no token ids input (an encoder, or a model that takes embeddings)");
  refuseFixedShape(byName.get(ids)!);
  if (logits === undefined)
    throw refused("outputs", "no logits output (an encoder, or a model exported without its head)");
  const counted = roles.find(({ role }) => role === "past length" || role === "total length");
  if (counted !== undefined)
    throw refused(
      counted.name,
      "a cache of fixed size, in a graph that was not understood, cannot be driven from outside",
    );
  if (named("past") === null) throw refused("inputs", "no past key-value inputs: the graph cannot continue a sequence");
  return {
    ids,
    attentionMask: named("mask"),
    positions: named("positions"),
    logits: logits.name,
    past: roles.flatMap(({ name, role }) => {
      if (role !== "past" && role !== "state") return [];
      const ring = ringCapacity(model, name);
      return [pairPast(byName.get(name)!, { outputs, hints, grows: role === "past", ring })];
    }),
    constants: roles
      .filter(({ role }) => role === "constant")
      .map(({ name, value }) => ({
        name,
        dtype: byName.get(name)!.dtype === "bool" ? "bool" : "int64",
        dims: byName.get(name)!.dims?.length === 0 ? [] : [1],
        value: value!,
      })),
  };
}

/** As exporters write without dynamic axes: the runtime takes nothing else. */
function refuseFixedShape({ name, dims }: ValueInfo): void {
  const [sequences, tokens] = dims ?? [];
  if (typeof tokens === "number")
    throw refused(name, `it has the fixed shape [${dims!.join(", ")}]: exactly ${tokens} tokens per call`);
  if (typeof sequences === "number" && sequences !== 1)
    throw refused(name, `it has the fixed shape [${dims!.join(", ")}]: exactly ${sequences} sequences per call`);
}

function rolesOrRefuse(model: OnnxModel): ReturnType<typeof inputRoles> {
  try {
    return inputRoles(model);
  } catch (error) {
    if (error instanceof Unliftable) throw refused(error.node, error.message);
    throw error;
  }
}

function pairPast(
  input: ValueInfo,
  { outputs, hints, grows, ring }: { outputs: ValueInfo[]; hints: ModelHints; grows: boolean; ring: number | null },
): OpaqueSpec["past"][number] {
  const wanted = continuationNames(input.name);
  const output = outputs.find(({ name }) => wanted.includes(name));
  if (output === undefined) throw refused(input.name, `past input ${input.name} has no output that continues it`);
  const dims = [...(input.dims ?? [])];
  const dtype = CACHE_TYPES.find((type) => type === input.dtype);
  if (dtype === undefined) throw refused(input.name, `a key-value cache of ${input.dtype}`);
  if (!grows) return { input: input.name, output: output.name, dtype, dims, sequenceAxis: null };
  const sequenceAxis = dims.length - 2;
  if (typeof dims.at(-3) !== "number" || (typeof dims.at(-1) !== "number" && hints.headSize === null))
    throw refused(input.name, "the size of its cache is given neither in the graph nor in a configuration file");
  if (typeof dims.at(-1) !== "number") dims[dims.length - 1] = hints.headSize;
  // [2, batch, heads, past, width] holds keys and values; the batch is 1.
  if (dims.length === 5) dims[1] = 1;
  if (ring === null) return { input: input.name, output: output.name, dtype, dims, sequenceAxis };
  dims[sequenceAxis] = ring;
  return { input: input.name, output: output.name, dtype, dims, sequenceAxis: null };
}

/**
 * Tokens of a cache that goes round instead of growing: it has its size from the first call on. Attribute
 * `sliding_window_cache` of GroupQueryAttention (ONNX Runtime contrib operators). Null: it grows.
 */
function ringCapacity({ graph }: OnnxModel, past: string): number | null {
  const user = graph.nodes.find(({ opType, inputs }) => opType === "GroupQueryAttention" && inputs.includes(past));
  const [rings, window] = ["sliding_window_cache", "local_window_size"].map((name) => user?.attributes.get(name));
  return rings?.kind === "int" && rings.value === 1 && window?.kind === "int" ? window.value : null;
}

const CACHE_TYPES = ["float32", "float16", "int8", "uint8"] as const;

export function refused(node: string, reason: string): BlockllmError {
  return new BlockllmError("model_unsupported", `${node}: ${reason}`, {
    hint: "export the decoder with past key-value inputs and logits, e.g. optimum-cli export onnx --task text-generation-with-past",
  });
}
