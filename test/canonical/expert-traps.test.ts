import { describe, expect, it } from "vitest";

import { numbers, type GraphBuilder } from "./graph-builder.ts";
import { splitAndVerify } from "./split-model.ts";
import { TINY, tinyDecoder } from "./tiny-decoder.ts";

const EXPERTS = 3;
const SLOTS = 2;
const { hidden } = TINY;

/** How one expert goes about its tokens; each step takes the value as it is and gives the one to go on with. */
interface Routing {
  slots?: number;
  router?: (g: GraphBuilder, logits: string) => string;
  /** [n] int64: the tokens that chose the expert, as they are used to pick its rows. */
  picked?: (g: GraphBuilder, tokens: string) => string;
  /** Where its rows go back to. */
  places?: (g: GraphBuilder, tokens: string, before: string | null) => string;
  /** [n, hidden] before the expert, and after it. */
  rows?: (g: GraphBuilder, rows: string, share: string) => string;
  result?: (g: GraphBuilder, rows: string, values: { share: string; tokens: string }) => string;
  /** [n, 1] */
  share?: (g: GraphBuilder, share: string, values: { shares: string; tokens: string }) => string;
  reduction?: string;
}

/** x + Σ share · tanh(x·W) over the experts a router chose, as dynamo writes the loop over experts. */
function withExperts(routing: Routing) {
  return tinyDecoder({ afterMlp: (g, value, { layer }) => mixture(g, value, { ...routing, layer }) });
}

function mixture(g: GraphBuilder, value: string, routing: Routing & { layer: number }): string {
  const { slots = SLOTS, layer } = routing;
  const x = g.add("Reshape", [value, g.ints([-1, hidden])]);
  const weight = (seed: number, width: number): string =>
    g.floats(numbers(500 + 10 * layer + seed, hidden * width, 0.7), [hidden, width]);
  const given = g.add("MatMul", [x, weight(0, EXPERTS)]);
  const logits = routing.router?.(g, given) ?? given;
  const [chosen, indices] = g.addMany("TopK", [logits, g.ints([slots])], { axis: -1 }, [
    `experts.${layer}.values`,
    `experts.${layer}.indices`,
  ]) as [string, string];
  const shares = g.add("Softmax", [chosen], { axis: -1 });
  let sum = g.add("ConstantOfShape", [g.add("Shape", [x])]);
  let before: string | null = null;
  for (let expert = 0; expert < EXPERTS; expert++) {
    const mask = g.add("Equal", [indices, g.int(expert)]);
    const found = g.add("NonZero", [mask]);
    const tokens = g.add("Gather", [found, g.int(0)], { axis: 0 });
    const pairs = g.add("Transpose", [found], { perm: [1, 0] });
    const own = g.add("Unsqueeze", [g.add("GatherND", [shares, pairs]), g.ints([1])]);
    const share = routing.share?.(g, own, { shares, tokens }) ?? own;
    const gathered = g.add("Gather", [x, routing.picked?.(g, tokens) ?? tokens], { axis: 0 });
    const rows = routing.rows?.(g, gathered, share) ?? gathered;
    const made = g.add("Tanh", [g.add("MatMul", [rows, weight(expert + 1, hidden)])]);
    const result = routing.result?.(g, made, { share, tokens }) ?? g.add("Mul", [made, share]);
    const places = g.add("Unsqueeze", [routing.places?.(g, tokens, before) ?? tokens, g.ints([1])]);
    sum = g.add("ScatterND", [sum, places, result], { reduction: routing.reduction ?? "add" });
    before = tokens;
  }
  return g.add("Add", [value, g.add("Reshape", [sum, g.add("Shape", [value])])]);
}

describe("experts that are cut, and compute the same", () => {
  it.each<[string, Routing]>([
    ["two of three", {}],
    ["one of three", { slots: 1 }],
    ["all three", { slots: 3 }],
    ["shares of a softmax over all experts", { router: (g, logits) => g.add("Softmax", [logits], { axis: -1 }) }],
    [
      "rows scaled by their share before the expert",
      { rows: (g, rows, share) => g.add("Mul", [rows, share]), result: (_, rows) => rows },
    ],
    ["rows that no share scales", { result: (_, rows) => rows }],
    ["the first slot's share, whichever slot the expert is in", { share: firstSlot }],
  ])("%s", async (_, routing) => {
    const { reason, verification } = await splitAndVerify(withExperts(routing));
    expect(reason).toBe("");
    expect(verification).toMatchObject({ passed: true, greedy_equal: true });
  });
});

describe("experts that are kept whole", () => {
  it.each<[string, Routing, RegExp]>([
    [
      "a capacity of two tokens for each expert",
      { picked: first(2), places: first(2), share: (g, share) => g.add("Slice", [share, g.ints([0]), g.ints([2])]) },
      /token|rows/,
    ],
    [
      "a capacity of forty",
      { picked: first(40), places: first(40), share: (g, share) => first(40)(g, share) },
      /some of the tokens/,
    ],
    [
      "rows that go back to other tokens",
      { places: (g, tokens) => g.add("Slice", [tokens, g.ints([-1]), g.ints([-1000]), g.ints([0]), g.ints([-1])]) },
      /places/,
    ],
    [
      "rows scaled by how many tokens chose the expert",
      { result: (g, rows, { tokens }) => g.add("Mul", [rows, g.add("Cast", [g.add("Size", [tokens])], { to: 1 })]) },
      /number of tokens/,
    ],
    ["rows that overwrite those of other experts", { reduction: "none" }, /overwrites/],
    [
      "a router that looks at the other tokens",
      { router: (g, logits) => g.add("Softmax", [logits], { axis: 0 }) },
      /last axis/,
    ],
    [
      "a router that subtracts the mean of all tokens",
      { router: (g, logits) => g.add("Sub", [logits, g.add("ReduceMean", [logits, g.ints([0])])]) },
      /last axis/,
    ],
  ])("%s", async (_, routing, expected) => {
    const { reason, verification } = await splitAndVerify(withExperts(routing));
    expect(reason).toMatch(expected);
    expect(verification.greedy_equal).toBe(true);
  });
});

function first(count: number) {
  return (g: GraphBuilder, list: string): string => g.add("Slice", [list, g.ints([0]), g.ints([count])]);
}

function firstSlot(g: GraphBuilder, _share: string, { shares, tokens }: { shares: string; tokens: string }): string {
  return g.add("Slice", [g.add("Gather", [shares, tokens], { axis: 0 }), g.ints([0]), g.ints([1]), g.ints([1])]);
}
