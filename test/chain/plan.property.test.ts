import fc from "fast-check";
import { expect, test } from "vitest";
import type { CoreSpec, Digest, Port, PortName } from "../../src/blocks/block.ts";
import type { BlockChain, ChainPart, ChainStep } from "../../src/chain/chain.ts";
import { planChains, type Plan } from "../../src/chain/plan.ts";

const CORE: CoreSpec = {
  heads: 1,
  kvHeads: 1,
  headSize: 4,
  valueHeadSize: 4,
  scale: 1,
  window: null,
  softcap: null,
  alibiSlopes: null,
  sinks: null,
};

function port(given: PortName): Port {
  return { name: given, width: 4 };
}

function part(name: string, inputs: PortName[], outputs: PortName[]): ChainPart {
  const graph: Digest = `sha256:${name}`;
  const tensors = [
    { name: "weight", digest: `sha256:w-${name}` as Digest, dtype: "float32" as const, dims: [4], bytes: 16 },
  ];
  return {
    role: "main",
    label: name,
    graph,
    graphBytes: 10,
    inputs: inputs.map(port),
    outputs: outputs.map(port),
    tensors,
    rotary: null,
    factors: [],
  };
}

/** Layers by the number that names their weights; 0..5 so that models share and repeat some. */
function chainOf(name: string, embedding: number, layers: { attention: number; mlp: number | null }[]): BlockChain {
  const steps: ChainStep[] = [{ kind: "part", part: part(`embedding-${embedding}`, ["ids"], ["hidden_out"]) }];
  layers.forEach(({ attention, mlp }, layer) => {
    steps.push({ kind: "part", part: part(`in-${attention}`, ["hidden"], ["q", "k", "v"]) });
    steps.push({ kind: "core", layer, core: CORE });
    steps.push({ kind: "part", part: part(`out-${attention}`, ["hidden", "o"], ["hidden_out"]) });
    if (mlp !== null) steps.push({ kind: "part", part: part(`mlp-${mlp}`, ["hidden"], ["hidden_out"]) });
  });
  steps.push({ kind: "part", part: part(`head-${embedding}`, ["hidden"], ["logits"]) });
  const document = {} as BlockChain["document"];
  return { kind: "blocks", name, key: name, document, steps, cores: layers.map(() => CORE) };
}

const layer = fc.record({ attention: fc.nat(5), mlp: fc.option(fc.nat(5)) });
const chains = fc
  .array(fc.tuple(fc.nat(1), fc.array(layer, { maxLength: 7 })), { maxLength: 6 })
  .map((list) => list.map(([embedding, layers], index) => chainOf(`model-${index}`, embedding, layers)));

function walked(plan: Plan, index: number): string[] {
  return plan.chains[index]!.walk.flatMap((step) =>
    step.kind === "core" ? [`core ${step.layer}`] : plan.segments[step.segment]!.parts.map(({ label }) => label),
  );
}

function named(step: ChainStep): string {
  return step.kind === "core" ? `core ${step.layer}` : step.part.label;
}

test("every chain is covered once and in order, and every part lies in one segment", () => {
  fc.assert(
    fc.property(chains, (list) => {
      const plan = planChains(list);
      list.forEach((chain, index) => expect(walked(plan, index)).toEqual(chain.steps.map(named)));
      const placed = plan.segments.flatMap(({ parts }) => parts.map(({ graph }) => graph));
      expect(new Set(placed).size).toBe(placed.length);
      expect(plan.bytes).toBe(placed.length * 26);
      plan.segments.forEach((segment, id) => {
        expect(segment.id).toBe(id);
        const users = plan.chains.flatMap(({ walk }, chain) =>
          walk.some((step) => step.kind === "segment" && step.segment === id) ? [chain] : [],
        );
        expect(segment.chains).toEqual(users);
      });
    }),
    { numRuns: 500 },
  );
});

test("the stages hold every chain's walk, in its order", () => {
  fc.assert(
    fc.property(chains, (list) => {
      const plan = planChains(list);
      plan.chains.forEach(({ walk }, index) => {
        const own = plan.stages.flatMap(({ segment, members }) =>
          members.filter(({ chain }) => chain === index).map(({ position }) => ({ segment, position })),
        );
        const segments = walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : []));
        expect(own).toEqual(segments.map((segment, position) => ({ segment, position })));
      });
      for (const { members } of plan.stages) expect(members.length).toBeGreaterThan(0);
    }),
    { numRuns: 500 },
  );
});

function labels(plan: Plan): string[] {
  return plan.segments.map(({ parts }) => parts.map(({ label }) => label).join(" + "));
}

test("parts fuse exactly where all chains agree, and a head stays alone", () => {
  const first = chainOf("first", 0, [
    { attention: 0, mlp: 0 },
    { attention: 1, mlp: 1 },
  ]);
  const second = chainOf("second", 0, [
    { attention: 0, mlp: 0 },
    { attention: 1, mlp: 2 },
  ]);
  expect(labels(planChains([first]))).toEqual([
    "embedding-0 + in-0",
    "out-0 + mlp-0 + in-1",
    "out-1 + mlp-1",
    "head-0",
  ]);
  expect(labels(planChains([first, second]))).toEqual([
    "embedding-0 + in-0",
    "out-0 + mlp-0 + in-1",
    "out-1",
    "mlp-1",
    "head-0",
    "mlp-2",
  ]);

  const stages = planChains([first, second]).stages.map(({ segment, members }) => [
    segment,
    members.map(({ chain }) => chain),
  ]);
  expect(stages).toEqual([
    [0, [0, 1]],
    [1, [0, 1]],
    [2, [0, 1]],
    [3, [0]],
    [5, [1]],
    [4, [0, 1]],
  ]);
});

test("the residual leaves a segment beside q, k and v", () => {
  const [, middle] = planChains([
    chainOf("one", 0, [
      { attention: 0, mlp: 0 },
      { attention: 1, mlp: null },
    ]),
  ]).segments;
  expect(middle!.inputs.map(({ name }) => name)).toEqual(["hidden", "o"]);
  expect(middle!.outputs.map(({ name }) => name)).toEqual(["hidden_out", "q", "k", "v"]);
});
