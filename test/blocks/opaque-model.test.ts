import { expect, it } from "vitest";

import { takeApart } from "../../src/blocks/take-apart.ts";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { TINY, tinyDecoder } from "../canonical/tiny-decoder.ts";

const HINTS = { headSize: TINY.size, contextLength: TINY.contextLength };

/** The tiny decoder with caches of another type; only what it takes and gives is looked at. */
function withCachesOf(dtype: "int8" | "uint8" | "int16"): OnnxModel {
  const model = tinyDecoder();
  const retyped = (ports: OnnxModel["graph"]["inputs"]): OnnxModel["graph"]["inputs"] =>
    ports.map((port) => (/past|present/.test(port.name) ? { ...port, dtype } : port));
  const { graph } = model;
  return { ...model, graph: { ...graph, inputs: retyped(graph.inputs), outputs: retyped(graph.outputs) } };
}

it.each(["int8", "uint8"] as const)(
  "a decoder with a cache of %s is served whole, with caches of that type",
  (dtype) => {
    const apart = takeApart(withCachesOf(dtype), HINTS);
    expect(apart).toMatchObject({ kind: "opaque", reason: "past_key_values.0.key: a quantised key-value cache" });
    const dtypes = apart.kind === "opaque" ? apart.spec.past.map((past) => past.dtype) : [];
    expect(dtypes).toEqual(Array.from({ length: 2 * TINY.layers }, () => dtype));
  },
);

it.each([
  [[2, 16], "exactly 16 tokens per call"],
  [[2, "length"], "exactly 2 sequences per call"],
])("ids of shape %j, in a graph that is not cut, are refused", (dims, reason) => {
  const model = withCachesOf("int8");
  model.graph.inputs.find(({ name }) => name === "input_ids")!.dims = dims;
  expect(() => takeApart(model, HINTS)).toThrow(`input_ids: it has the fixed shape [${dims.join(", ")}]: ${reason}`);
});

it("a cache that goes round is a state of its window's size", () => {
  const model = withCachesOf("int8");
  const user = { name: "local", opType: "GroupQueryAttention", domain: "com.microsoft", outputs: ["unused"] };
  const attributes = new Map(
    Object.entries({ sliding_window_cache: 1, local_window_size: 6 }).map(
      ([name, value]) => [name, { kind: "int", value }] as const,
    ),
  );
  model.graph.nodes.push({ ...user, inputs: ["past_key_values.0.key"], attributes });
  const apart = takeApart(model, HINTS);
  const [ring, growing] = apart.kind === "opaque" ? apart.spec.past : [];
  expect(ring).toMatchObject({ input: "past_key_values.0.key", sequenceAxis: null });
  expect(ring!.dims.at(-2)).toBe(6);
  expect(growing!.sequenceAxis).toBe(2);
});

it("a cache of a type that no exporter writes is refused", () => {
  expect(() => takeApart(withCachesOf("int16"), HINTS)).toThrow(/past_key_values\.0\.key.*int16/);
});

it("a node that takes what nothing gives is a broken export, and named", () => {
  const model = tinyDecoder();
  const node = model.graph.nodes.find(({ opType }) => opType === "Softmax")!;
  node.inputs = ["lost"];
  expect(() => takeApart(model, HINTS)).toThrow(`${node.name}: Softmax takes lost, which nothing gives`);
});

it("a state that does not grow is served whole beside keys and values", () => {
  const model = tinyDecoder();
  const state = { dtype: "float32" as const, dims: ["batch", 16, 3] };
  model.graph.inputs.push({ ...state, name: "past_conv.0" });
  model.graph.outputs.push({ ...state, name: "present_conv.0" });
  const apart = takeApart(model, HINTS);
  expect(apart).toMatchObject({ kind: "opaque", reason: expect.stringContaining("past_conv.0: a state") as string });
  expect(apart.kind === "opaque" && apart.spec.past.at(-1)).toEqual({
    input: "past_conv.0",
    output: "present_conv.0",
    dtype: "float32",
    dims: ["batch", 16, 3],
    sequenceAxis: null,
  });
});

it.each([
  ["encoder_hidden_states", 3, /encoder_hidden_states: the decoder of an encoder-decoder/],
  ["past_key_values.0.encoder.key", 4, /encoder\.key: the decoder of an encoder-decoder/],
  ["input_features", 3, /input_features: an encoder of sound/],
  ["inputs_embeds", 3, /inputs_embeds: it takes embeddings instead of token ids/],
  ["block_table", 2, /block_table: a graph for paged attention/],
  ["vision_position_ids", 3, /vision_position_ids: positions of 3 axes/],
  ["pixel_values", 2, /graph input pixel_values \(float32, rank 2\) has no known role/],
])("a graph that takes %s too is refused, and told why", (name, rank, reason) => {
  const model = tinyDecoder();
  model.graph.inputs.push({ name, dtype: "float32", dims: Array.from({ length: rank }, () => null) });
  expect(() => takeApart(model, HINTS)).toThrow(reason);
});
