import { Readable } from "node:stream";
import { expect, test } from "vitest";
import type { BlockDocument, CoreSpec, Digest, Port, InnerPortName, PortName } from "../../src/blocks/block.ts";
import { resolveChain, type BlockSource } from "../../src/chain/resolve-chain.ts";
import type { ChainEntry, ModelDocument } from "../../src/store/model-document.ts";

const CORE: CoreSpec = {
  heads: 2,
  kvHeads: 1,
  headSize: 4,
  valueHeadSize: 4,
  scale: 1,
  window: null,
  softcap: null,
  alibiSlopes: null,
  sinks: null,
};

type Ports = Partial<Record<Exclude<PortName, InnerPortName>, number>>;

function part(role: "main" | "in" | "out", inputs: Ports, outputs: Ports): BlockDocument["parts"][number] {
  const ports = (given: Ports): Port[] =>
    Object.entries(given).map(([name, width]) => ({ name: name as PortName, width }));
  return { role, graph: `sha256:${role}`, graphBytes: 1, inputs: ports(inputs), outputs: ports(outputs), tensors: [] };
}

function block(
  kind: BlockDocument["kind"],
  parts: BlockDocument["parts"],
  more: Partial<BlockDocument> = {},
): BlockDocument {
  return { version: 1, kind, parts, core: null, rotary: null, opaque: null, ...more };
}

const EMBEDDING = block("embedding", [part("main", { ids: 1 }, { hidden_out: 8 })]);
const ATTENTION = block(
  "attention",
  [
    part("in", { hidden: 8, cos: 2, sin: 2 }, { q: 8, k: 4, v: 4 }),
    part("out", { hidden: 8, o: 8 }, { hidden_out: 8 }),
  ],
  { core: CORE, rotary: { dim: 4, interleaved: false, frequencies: { kind: "theta", theta: 10 }, scale: 1 } },
);
const MLP = block("mlp", [part("main", { hidden: 8 }, { hidden_out: 8 })]);
const HEAD = block("head", [part("main", { hidden: 8 }, { logits: 16 })]);

function sourceOf(blocks: BlockDocument[], more: Partial<ModelDocument> = {}): BlockSource {
  const chain = blocks.map(({ kind }, index): ChainEntry => ({
    kind,
    layer: kind === "attention" || kind === "mlp" ? 3 : null,
    digest: `sha256:${index}`,
    bytes: 1,
  }));
  return {
    readModel: async (name) => ({ name, document: { vocabSize: 16, opaque: false, chain, ...more } as ModelDocument }),
    readBlock: async (digest: Digest) => blocks[Number(digest.slice(7))]!,
    readAdapter: async () => ({ version: 1, parts: [] }),
    blobs: {
      path: (digest) => `/blobs/${digest}`,
      has: async () => true,
      read: async () => new Uint8Array(),
      stream: () => Readable.from([]),
    },
  };
}

test("opens blocks into steps, with the core between in and out", async () => {
  const chain = await resolveChain(sourceOf([EMBEDDING, ATTENTION, MLP, ATTENTION, HEAD]), "model");
  if (chain.kind !== "blocks") throw new Error("unreachable");
  expect(chain.steps.map((step) => (step.kind === "core" ? `core ${step.layer}` : step.part.label))).toEqual([
    "embedding",
    "attention of layer 3 (in)",
    "core 0",
    "attention of layer 3 (out)",
    "mlp of layer 3",
    "attention of layer 3 (in)",
    "core 1",
    "attention of layer 3 (out)",
    "head",
  ]);
  expect(chain.cores).toEqual([CORE, CORE]);
  expect(chain.steps.map((step) => (step.kind === "part" ? step.part.rotary?.dim : undefined))).toEqual([
    undefined,
    4,
    undefined,
    undefined,
    undefined,
    4,
    undefined,
    undefined,
    undefined,
  ]);
});

test.each([
  [
    "another width",
    [EMBEDDING, block("mlp", [part("main", { hidden: 12 }, { hidden_out: 12 })]), HEAD],
    '"mlp of layer 3" takes hidden of width 12, but "embedding" gives width 8',
  ],
  [
    "a core that does not fit",
    [EMBEDDING, { ...ATTENTION, core: { ...CORE, kvHeads: 2 } }, HEAD],
    '"attention core 0" takes k of width 8, but "attention of layer 3 (in)" gives width 4',
  ],
  [
    "rotary rows of another size",
    [EMBEDDING, { ...ATTENTION, rotary: { ...ATTENTION.rotary!, dim: 8 } }, HEAD],
    '"attention of layer 3 (in)" takes cos of width 2, but "rotary of attention of layer 3 (in)" gives width 4',
  ],
  ["a block too early", [MLP, EMBEDDING, HEAD], '"mlp of layer 3" takes hidden, but nothing before it gives hidden'],
  ["no head", [EMBEDDING, MLP], "ends without logits"],
  [
    "another vocabulary",
    [EMBEDDING, block("head", [part("main", { hidden: 8 }, { logits: 17 })])],
    '"head" gives 17 logits, but the vocabulary has 16',
  ],
])("refuses %s, naming both sides", async (_, blocks, message) => {
  await expect(resolveChain(sourceOf(blocks), "model")).rejects.toMatchObject({
    code: "repository_invalid",
    message: expect.stringContaining(message),
  });
});

test("an opaque model is one block", async () => {
  const opaque = { ids: "input_ids", attentionMask: null, positions: null, logits: "logits", past: [], constants: [] };
  const whole = block("opaque", [part("main", {}, {})], { opaque });
  expect(await resolveChain(sourceOf([whole], { opaque: true }), "model")).toMatchObject({
    kind: "opaque",
    spec: opaque,
  });
  await expect(resolveChain(sourceOf([whole, MLP], { opaque: true }), "model")).rejects.toMatchObject({
    code: "repository_invalid",
  });
});
