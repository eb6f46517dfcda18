import type { CoreSpec } from "../../blocks/block.ts";
import type { Attribute, GraphNode, ValueInfo } from "../../onnx/model.ts";
import { ownModel } from "../../onnx/own-model.ts";
import { writeModel } from "../../onnx/write-model.ts";

/** The attention core of a chunk of one sequence as an ONNX file of one node: q, k, v, length and, if masked, mask in; o out. */
export function coreModel(core: CoreSpec, masked: boolean): Uint8Array {
  const inputs = [
    rows("q", "queries", core.heads * core.headSize),
    rows("k", "keys", core.kvHeads * core.headSize),
    rows("v", "keys", core.kvHeads * core.valueHeadSize),
    { name: "length", dtype: "int64", dims: [1] } satisfies ValueInfo,
  ];
  if (masked) inputs.push({ name: "mask", dtype: "float32", dims: [1, "mask_heads", "queries", "keys"] });
  const node = coreNode(core, masked ? "mask" : "");
  const outputs = [rows("o", "queries", core.heads * core.valueHeadSize)];
  return writeModel(ownModel({ name: "attention-core", nodes: [node], initializers: new Map(), inputs, outputs }));
}

/** `Attention` (ai.onnx, opset 24); `length` aligns the causality of its queries with the last of the keys. */
function coreNode(core: CoreSpec, mask: string): GraphNode {
  const attributes = new Map<string, Attribute>([
    ["q_num_heads", { kind: "int", value: core.heads }],
    ["kv_num_heads", { kind: "int", value: core.kvHeads }],
    ["is_causal", { kind: "int", value: 1 }],
    ["scale", { kind: "float", value: core.scale }],
    ["softcap", { kind: "float", value: core.softcap ?? 0 }],
  ]);
  const inputs = ["q", "k", "v", mask, "", "", "length"];
  return { name: "core", opType: "Attention", domain: "", inputs, outputs: ["o"], attributes };
}

export function rows(name: string, count: string, width: number): ValueInfo {
  return { name, dtype: "float32", dims: [1, count, width] };
}
