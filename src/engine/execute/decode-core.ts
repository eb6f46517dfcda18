import type { CoreSpec } from "../../blocks/block.ts";
import type { Attribute, GraphNode, TensorInfo, ValueInfo } from "../../onnx/model.ts";
import { ownModel } from "../../onnx/own-model.ts";
import { writeModel } from "../../onnx/write-model.ts";
import { rows } from "./core-model.ts";

/** Names of one slot's keys and values. */
export interface Slot {
  k: string;
  v: string;
}

/** Nodes with the shapes they name. */
export interface DecodeNodes {
  nodes: GraphNode[];
  initializers: Map<string, TensorInfo>;
}

/**
 * The attention core for one query row per slot, each over all rows of its own `k.i` and `v.i`: q [1, slots, heads × headSize]
 * in, o of as many rows out.
 */
export function decodeCoreModel(core: CoreSpec, slots: number): Uint8Array {
  const names = Array.from({ length: slots }, (_, slot): Slot => ({ k: `k.${slot}`, v: `v.${slot}` }));
  const inputs = names.flatMap(({ k, v }, slot): ValueInfo[] => [
    rows(k, `keys.${slot}`, core.kvHeads * core.headSize),
    rows(v, `keys.${slot}`, core.kvHeads * core.valueHeadSize),
  ]);
  inputs.unshift({ name: "q", dtype: "float32", dims: [1, slots, core.heads * core.headSize] });
  const outputs: ValueInfo[] = [{ name: "o", dtype: "float32", dims: [1, slots, core.heads * core.valueHeadSize] }];
  return writeModel(ownModel({ name: "decode-core", ...decodeNodes(core, names), inputs, outputs }));
}

/**
 * From q to o. The query heads that share a key head become query rows of that one head, so that the kernel lays its keys
 * out once for all of them. Each slot is a node of its own: what it computes depends on nothing in another.
 */
export function decodeNodes(core: CoreSpec, slots: readonly Slot[]): DecodeNodes {
  const { heads, kvHeads, headSize, valueHeadSize } = core;
  const group = heads / kvHeads;
  const apart = swapMiddle({ from: "q", to: "queries" }, [kvHeads, group, headSize], [-1, group, kvHeads * headSize]);
  const back = swapMiddle(
    { from: "attended", to: "o" },
    [group, kvHeads, valueHeadSize],
    [1, -1, heads * valueHeadSize],
  );
  const one = slots.length === 1;
  const each = (name: string): string[] => (one ? [name] : slots.map((_, slot) => `${name}.${slot}`));
  const [queries, attended] = [each("queries"), each("attended")];
  const nodes = [
    ...apart.nodes,
    ...(one ? [] : [node("Split", ["queries"], queries, { axis: int(0), num_outputs: int(slots.length) })]),
    ...slots.map(({ k, v }, slot) => attention(core, [queries[slot]!, k, v], attended[slot]!)),
    ...(one ? [] : [node("Concat", attended, ["attended"], { axis: int(0) })]),
    ...back.nodes,
  ];
  return { nodes, initializers: new Map([...apart.initializers, ...back.initializers]) };
}

/** […, a, b, width] as […, b, a, width], given in `shape`. */
function swapMiddle(
  { from, to }: { from: string; to: string },
  [a, b, width]: [a: number, b: number, width: number],
  shape: number[],
): DecodeNodes {
  const shaped = `${to}.shape`;
  const initializers = new Map([[shaped, shapeTensor(shaped, shape)]]);
  if (a === 1 || b === 1) return { nodes: [node("Reshape", [from, shaped], [to])], initializers };
  const middle = `${to}.middle`;
  initializers.set(middle, shapeTensor(middle, [-1, a, b, width]));
  const nodes = [
    node("Reshape", [from, middle], [`${to}.apart`]),
    node("Transpose", [`${to}.apart`], [`${to}.swapped`], { perm: { kind: "ints", value: [0, 2, 1, 3] } }),
    node("Reshape", [`${to}.swapped`, shaped], [to]),
  ];
  return { nodes, initializers };
}

/** Not causal: a slot's keys end with the query's own. */
function attention({ kvHeads, scale, softcap }: CoreSpec, inputs: string[], output: string): GraphNode {
  return node("Attention", inputs, [output], {
    q_num_heads: int(kvHeads),
    kv_num_heads: int(kvHeads),
    scale: { kind: "float", value: scale },
    softcap: { kind: "float", value: softcap ?? 0 },
  });
}

function node(
  opType: string,
  inputs: string[],
  outputs: string[],
  attributes: Record<string, Attribute> = {},
): GraphNode {
  return { name: outputs[0]!, opType, domain: "", inputs, outputs, attributes: new Map(Object.entries(attributes)) };
}

function int(value: number): Attribute {
  return { kind: "int", value };
}

function shapeTensor(name: string, values: number[]): TensorInfo {
  const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { name, dtype: "int64", dims: [values.length], data: { kind: "bytes", bytes } };
}
