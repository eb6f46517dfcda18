import { describe, expect, it } from "vitest";

import type { OnnxModel } from "../../src/onnx/model.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { splitAndVerify } from "./split-model.ts";
import { additive, maskAxes, TINY, tinyDecoder, type Changes, type Values } from "./tiny-decoder.ts";

/**
 * Graphs that look like the decoder they were made from and compute something else, here or there. Each must be kept
 * whole, or be cut and still compute the same: an answer that differs from the file's is never right.
 */
describe("kept whole", () => {
  it.each<[string, Changes | OnnxModel, RegExp]>([
    ["the cache holds other keys than attention reads", { presentKey: times(1.5) }, /cache holds other rows|key-value/],
    ["the cache holds other values than attention reads", { presentValue: times(0.5) }, /present\.0\.value/],
    ["two layers continue each other's keys", swapOutputs("present.0.key", "present.1.key"), /present\.0\.key/],
    ["keys are continued as values", swapOutputs("present.1.key", "present.1.value"), /present\.1\.key/],
    ["only cached keys are scaled", { attendedKey: pastTimes(0.5) }, /scale|cache|key/],
    ["only cached values are scaled", { attendedValue: pastTimes(0.5) }, /values/],
    ["one cached key is left out", { attendedKey: dropFirst }, /past and the new tokens|unknown order/],
    [
      "a token that does not see itself",
      { mask: visibleWhere((g, { queries, keys }) => g.add("Less", [keys, queries])) },
      /hides position/,
    ],
    ["a mask with a hole near the start", { mask: hole(2) }, /neither causal|window/],
    ["a mask with a hole far on", { mask: hole(60) }, /neither causal|window/],
    ["attention in chunks of 16", { mask: inChunks }, /window|neither causal/],
    ["a prefix that sees itself whole", { mask: prefix(6) }, /neither causal/],
    ["a window that begins beyond 64 tokens", { mask: windowBeyond64(8) }, /window/],
    ["a window longer than any short probe that begins beyond 64 tokens", { mask: windowBeyond64(30) }, /window/],
    ["a mask that weakens old keys by their square", { mask: squares }, /the mask adds/],
    ["positions counted from 1", { positions: (g, value) => g.add("Add", [value, g.float(1)]) }, /rotary/],
    ["positions that stop at 50", { positions: (g, value) => g.add("Min", [value, g.float(50)]) }, /rotary/],
    [
      "angles that change with the length",
      { angles: whenLong((g, value) => g.add("Mul", [value, g.float(0.5)])) },
      /rotary/,
    ],
    ["angles that turn round with the length", { angles: whenLong((g, value) => g.add("Neg", [value])) }, /rotary/],
    [
      "a pair that turns only far on",
      {
        angles: (g, value, values) =>
          whenLong((_, other) => g.add("Add", [other, g.floats([0, 0, 0, 1])]))(
            g,
            listedAngles([0.9, 0.31, 0, 0])(g, value, values),
            values,
          ),
      },
      /rotary/,
    ],
    [
      "cosines and sines exchanged far on",
      { angles: whenLong((g, value) => g.add("Sub", [g.float(Math.PI / 2), value])) },
      /rotary/,
    ],
    ["queries weighed by their position", { query: byLogOfPosition }, /rotary|longer/],
    ["one pair of elements weighed more", { cos: pairTimes(1, 1.3), sin: pairTimes(1, 1.3) }, /rotary/],
    ["one table of angles for short and one for long sequences", { ...rotaryTables(whenLongTable) }, /rotary|table/],
    ["heads of the cache in another order", { repeat: alternating }, /heads|order/],
    [
      "a second stream beside the residual",
      { afterMlp: (g, value, { embedding, layer }) => (layer === 1 ? g.add("Add", [value, embedding]) : value) },
      /residual|single row/,
    ],
    ["one factor for columns apart", { afterMlp: grouped([2, 4, 2], [1, 4, 1]) }, /repeats a row/],
    [
      "logits that depend on the length",
      { logits: whenLong((g, value) => g.add("Mul", [value, g.float(2)])) },
      /more than 64 tokens/,
    ],
    [
      "logits that are others for the first call",
      { logits: timesWhere((g, { past }) => g.add("Equal", [past, g.int(0)])) },
      /another length|longer/,
    ],
    [
      "logits that are others for a single token",
      { logits: timesWhere((g, { sequence }) => g.add("Equal", [sequence, g.int(1)])) },
      /another length|longer/,
    ],
    [
      "an MLP scaled beyond 64 tokens",
      { afterMlp: timesWhere((g, { total }) => g.add("Greater", [total, g.int(64)])) },
      /more than 64 tokens/,
    ],
  ])("%s", async (_, changes, reason) => {
    const outcome = await splitAndVerify("graph" in changes ? changes : tinyDecoder(changes));
    expect(outcome.reason).toMatch(reason);
    expect(outcome.verification).toMatchObject({ passed: true, max_abs_logit_diff: 0 });
  });
});

describe("cut, and computes the same", () => {
  it.each<[string, Changes]>([
    ["as it is", {}],
    // As decoder_with_past files are: right when fed one token at a time, which is how they are compared.
    [
      "a mask without an order",
      { mask: visibleWhere((g, { queries, total }) => g.add("Less", [g.add("Mul", [queries, g.int(0)]), total])) },
    ],
    ["a window of 6", { mask: window(6) }],
    ["a window of 40, longer than any short probe", { mask: window(40) }],
    ["slopes instead of a mask without bias", { mask: alibi }],
    ["scores scaled twice", { scores: times(0.5) }],
    ["keys scaled when read, not when cached", { attendedKey: times(0.5) }],
    ["rotation with a magnitude (YaRN)", { cos: times(1.2), sin: times(1.2) }],
    ["frequencies without a base", { angles: listedAngles([0.9, 0.31, 0.11, 0.05]) }],
    ["pairs that never turn", { angles: listedAngles([0.9, 0.31, 0, 0]) }],
    ["tables without a base", rotaryTables((g, table) => table(g))],
    ["queries scaled before tables turn them", { ...rotaryTables((g, table) => table(g)), projectedQuery: times(0.5) }],
    ["queries scaled before angles turn them", { projectedQuery: times(0.5) }],
    [
      "capped scores",
      { scores: (g, value) => g.add("Mul", [g.add("Tanh", [g.add("Div", [value, g.float(5)])]), g.float(5)]) },
    ],
    [
      "scaled and capped logits",
      { logits: (g, value) => g.add("Mul", [g.add("Tanh", [g.add("Mul", [value, g.float(0.25)])]), g.float(4)]) },
    ],
    ["a residual that is doubled", { afterAttention: (g, value) => g.add("Add", [value, value]) }],
    ["one factor for a group of columns", { afterMlp: grouped([2, 8], [2, 1]) }],
  ])("%s", async (_, changes) => {
    const { reason, verification } = await splitAndVerify(tinyDecoder(changes));
    expect(reason).toBe("");
    expect(verification).toMatchObject({ passed: true, greedy_equal: true });
  });
});

describe("ids, mask and positions of 32 bits", () => {
  it.each<[string, Changes, RegExp]>([
    ["in a graph that is cut", {}, /^$/],
    ["in a graph that is kept whole", { mask: inChunks }, /kept whole/],
  ])("%s", async (_, changes, expected) => {
    const { reason, verification } = await splitAndVerify(narrowInputs(tinyDecoder(changes)));
    expect(reason).toMatch(expected);
    expect(verification).toMatchObject({ passed: true, greedy_equal: true });
  });
});

function narrowInputs(model: OnnxModel): OnnxModel {
  const g = new GraphBuilder("wide");
  const wide = new Map<string, string>();
  for (const input of model.graph.inputs.filter(({ dtype }) => dtype === "int64")) {
    input.dtype = "int32";
    wide.set(input.name, g.add("Cast", [input.name], { to: 7 }));
  }
  for (const node of model.graph.nodes) node.inputs = node.inputs.map((name) => wide.get(name) ?? name);
  model.graph.nodes.unshift(...g.nodes);
  return model;
}

type Step = NonNullable<Changes["query"]>;
type Axes = Values & { queries: string; keys: string };

function times(by: number): Step {
  return (g, value) => g.add("Mul", [value, g.float(by)]);
}

function swapOutputs(a: string, b: string): OnnxModel {
  const model = tinyDecoder();
  const other = new Map([
    [a, b],
    [b, a],
  ]);
  for (const node of model.graph.nodes) node.outputs = node.outputs.map((name) => other.get(name) ?? name);
  return model;
}

function pastTimes(by: number): Step {
  return (g, value, { past, total }) => {
    const part = (start: string, end: string): string =>
      g.add("Slice", [value, vector(g, start), vector(g, end), g.ints([2])]);
    return g.add("Concat", [g.add("Mul", [part(g.int(0), past), g.float(by)]), part(past, total)], { axis: 2 });
  };
}

function dropFirst(g: GraphBuilder, value: string, { total }: Values): string {
  const rest = g.add("Slice", [value, g.ints([1]), vector(g, total), g.ints([2])]);
  const last = g.add("Slice", [value, g.ints([-1]), vector(g, total), g.ints([2])]);
  return g.add("Concat", [rest, last], { axis: 2 });
}

function visibleWhere(visible: (g: GraphBuilder, axes: Axes) => string): Step {
  return (g, _mask, values) => additive(g, visible(g, { ...values, ...maskAxes(g, values) }));
}

function both(g: GraphBuilder, ...conditions: string[]): string {
  return conditions.reduce((a, b) => g.add("And", [a, b]));
}

function window(size: number): Step {
  return visibleWhere((g, { queries, keys }) =>
    both(g, g.add("LessOrEqual", [keys, queries]), g.add("Greater", [keys, g.add("Sub", [queries, g.int(size)])])),
  );
}

function hole(at: number): Step {
  return visibleWhere((g, { queries, keys }) => {
    const allowed = g.add("Or", [
      g.add("Not", [g.add("Equal", [keys, g.int(at)])]),
      g.add("Equal", [queries, g.int(at)]),
    ]);
    return both(g, g.add("LessOrEqual", [keys, queries]), allowed);
  });
}

function inChunks(g: GraphBuilder, mask: string, values: Values): string {
  const chunk = (axis: string): string => g.add("Div", [axis, g.int(16)]);
  return visibleWhere((_, { queries, keys }) =>
    both(g, g.add("LessOrEqual", [keys, queries]), g.add("Equal", [chunk(keys), chunk(queries)])),
  )(g, mask, values);
}

function prefix(length: number): Step {
  return visibleWhere((g, { queries, keys }) =>
    g.add("Or", [g.add("LessOrEqual", [keys, queries]), g.add("Less", [g.add("Max", [keys, queries]), g.int(length)])]),
  );
}

function windowBeyond64(size: number): Step {
  return (g, mask, values) =>
    g.add("Where", [g.add("Greater", [values.total, g.int(64)]), window(size)(g, mask, values), mask]);
}

function squares(g: GraphBuilder, mask: string, values: Values): string {
  const { queries, keys } = maskAxes(g, values);
  const distance = g.add("Cast", [g.add("Sub", [queries, keys])], { to: 1 });
  return g.add("Sub", [mask, g.add("Mul", [g.add("Mul", [distance, distance]), g.float(0.01)])]);
}

function alibi(g: GraphBuilder, mask: string, values: Values): string {
  const { queries, keys } = maskAxes(g, values);
  const distance = g.add("Cast", [g.add("Sub", [keys, queries])], { to: 1 });
  const slopes = g.floats(
    Array.from({ length: TINY.heads }, (_, head) => 2 ** -(head + 1)),
    [1, TINY.heads, 1, 1],
  );
  return g.add("Add", [g.add("Mul", [distance, slopes]), mask]);
}

/** The step's value in sequences of more than 64 tokens, what it was in shorter ones. */
function whenLong(step: (g: GraphBuilder, value: string) => string): Step {
  return (g, value, { total }) => g.add("Where", [g.add("Greater", [total, g.int(64)]), step(g, value), value]);
}

function timesWhere(condition: (g: GraphBuilder, values: Values) => string): Step {
  return (g, value, values) => g.add("Mul", [value, g.add("Where", [condition(g, values), g.float(2), g.float(1)])]);
}

function byLogOfPosition(g: GraphBuilder, value: string, { positions }: Values): string {
  const log = g.add("Log", [g.add("Add", [g.add("Cast", [positions], { to: 1 }), g.float(2)])]);
  return g.add("Mul", [value, g.add("Unsqueeze", [log, g.ints([1, 3])])]);
}

function listedAngles(frequencies: number[]): Step {
  return (g, _value, { positions }) => {
    const rows = g.add("Unsqueeze", [g.add("Cast", [positions], { to: 1 }), g.ints([1, 3])]);
    return g.add("Mul", [rows, g.floats(frequencies)]);
  };
}

function pairTimes(pair: number, by: number): Step {
  return (g, value) => {
    const half = TINY.size / 2;
    return g.add("Mul", [value, g.floats(Array.from({ length: TINY.size }, (_, d) => (d % half === pair ? by : 1)))]);
  };
}

type Table = (g: GraphBuilder, stretch?: number) => string;

/** Cosines and sines from tables by position, of frequencies that follow no base; `pick` chooses the table. */
function rotaryTables(pick: (g: GraphBuilder, table: Table, values: Values) => string): Changes {
  const rows =
    (table: Table): Step =>
    (g, _value, values) =>
      g.add("Unsqueeze", [g.add("Gather", [pick(g, table, values), "position_ids"]), g.ints([1])]);
  return { cos: rows(tableOf(Math.cos)), sin: rows(tableOf(Math.sin)) };
}

function tableOf(curve: (angle: number) => number): Table {
  return (g, stretch = 1) => {
    const frequencies = [0.9, 0.31, 0.11, 0.05];
    const entry = (_: unknown, i: number): number =>
      curve(Math.floor(i / TINY.size) * frequencies[i % frequencies.length]! * stretch);
    return g.floats(Array.from({ length: TINY.contextLength * TINY.size }, entry), [TINY.contextLength, TINY.size]);
  };
}

function whenLongTable(g: GraphBuilder, table: Table, { total }: Values): string {
  return g.addIf(g.add("Greater", [total, g.int(64)]), table(g, 0.5), table(g));
}

/** Each head of the cache in turn, 0 1 0 1, where grouped queries have 0 0 1 1. */
function alternating(g: GraphBuilder, value: string): string {
  return g.add("Gather", [value, g.ints([0, 2, 1, 3])], { axis: 1 });
}

/** Multiplies rows seen as `wide` by their own first columns seen as `narrow`. */
function grouped(wide: number[], narrow: number[]): Step {
  return (g, value) => {
    const columns = narrow.reduce((product, dim) => product * dim, 1);
    const first = g.add("Slice", [value, g.ints([0]), g.ints([columns]), g.ints([2])]);
    const factor = g.add("Reshape", [g.add("Sigmoid", [first]), g.ints([0, 0, ...narrow])]);
    const product = g.add("Mul", [g.add("Reshape", [value, g.ints([0, 0, ...wide])]), factor]);
    return g.add("Reshape", [product, g.ints([0, 0, TINY.hidden])]);
  };
}

function vector(g: GraphBuilder, scalar: string): string {
  return g.add("Reshape", [scalar, g.ints([1])]);
}
