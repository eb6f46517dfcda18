import type { OnnxGraph, OnnxModel } from "./model.ts";

/**
 * The operator sets of graphs that blockllm writes: 23 brought RMSNormalization and RotaryEmbedding, 24 the attention core's
 * inputs.
 */
export const OWN_OPSETS: ReadonlyMap<string, number> = new Map([
  ["", 24],
  ["com.microsoft", 1],
]);

/** A file around a graph of our own. IR version 10 is what ONNX Runtime needs for all that is in one. */
export function ownModel(graph: OnnxGraph, opsets = OWN_OPSETS): OnnxModel {
  return { irVersion: 10, producer: "blockllm", opsets: new Map(opsets), graph, functions: new Map() };
}
