import { expect, it } from "vitest";
import { printBlocks, printSharing } from "../../../src/cli/output/sharing.ts";
import type { BlockSharing, ModelSharing, SharingReport } from "../../../src/store/sharing.ts";

it("draws the same letter for the same block and a dot for one of its own", () => {
  const text = printSharing(
    report([
      model("base", ["a1", "a2", "a3"]),
      model("legal", ["a1", "b2", "a3"]),
      model("other", ["c1", "c2", "c3"]),
      model("other-copy", ["c1", "c2", "c3"]),
      model("alone", ["d1", "d2", "d3"]),
    ]),
  );
  const rows = Object.fromEntries([...text.matchAll(/^([\w-]+) +([A-Z.]{3})$/gm)].map((match) => [match[1], match[2]]));
  expect(rows).toEqual({ base: "A.A", legal: "A.A", other: "BBB", "other-copy": "BBB", alone: "..." });
  expect(text).toContain("4.00 MB saved");
});

it("says where each model parts from the one most like it", () => {
  const value = report([model("base", ["a1", "a2"]), model("copy", ["a1", "a2"]), model("legal", ["a1", "b2"])]);
  value.first_divergence = [
    { a: "base", b: "copy", layer: null, kind: null, shared_bytes: 20 },
    { a: "base", b: "legal", layer: 1, kind: "mlp", shared_bytes: 12 },
    { a: "copy", b: "legal", layer: 1, kind: "mlp", shared_bytes: 11 },
  ];
  const text = printSharing(value);
  expect(text).toMatch(/^base .* copy: nowhere$/m);
  expect(text).toMatch(/^legal .* base: mlp 1$/m);
});

it("says what to do in an empty repository", () => {
  expect(printSharing({ ...report([]), models: 0 })).toMatch(/blockllm split/);
});

it("lists blocks with whom they are shared, or what of them is", () => {
  const blocks: BlockSharing[] = [
    {
      kind: "embedding",
      layer: null,
      digest: digest("a1"),
      bytes: 1000,
      shared_with: ["legal", "hr"],
      adapter: { digest: digest("c3"), bytes: 20 },
      shared_tensor_bytes: 1000,
    },
    { kind: "mlp", layer: 0, digest: digest("b2"), bytes: 2000, shared_with: [], shared_tensor_bytes: 500 },
  ];
  expect(
    printBlocks(blocks)
      .split("\n")
      .map((line) => line.replaceAll(/ +/g, " ")),
  ).toEqual([
    "block digest size shared with",
    "embedding a1a1a1a1a1a1 1.00 kB + adapter 20 B legal, hr",
    "mlp 0 b2b2b2b2b2b2 2.00 kB 500 B of its tensors",
  ]);
});

function digest(pair: string): `sha256:${string}` {
  return `sha256:${pair.repeat(32)}`;
}

function model(name: string, pairs: string[]): Omit<ModelSharing, "blocks"> & { pairs: string[] } {
  return { name, digest: digest("ff"), bytes: 2e6, unique_bytes: 1e6, pairs };
}

function report(models: ReturnType<typeof model>[]): SharingReport {
  const none = { blocks: 0, saved_bytes: 0 };
  const sharing = models.map(({ pairs, ...rest }) => ({
    ...rest,
    blocks: pairs.map((pair, layer) => ({
      kind: "mlp" as const,
      layer,
      digest: digest(pair),
      bytes: 1,
      shared_with: models
        .filter((other) => other.name !== rest.name && other.pairs.includes(pair))
        .map(({ name }) => name),
      shared_tensor_bytes: 0,
    })),
  }));
  return {
    models: models.length,
    blocks: 15,
    logical_bytes: 10e6,
    stored_bytes: 6e6,
    kept_original_bytes: 0,
    ratio: 10 / 6,
    tiers: { exact: { blocks: 5, saved_bytes: 4e6 }, lowrank: none, residual: none, equivalent: none },
    pairs: [],
    first_divergence: [],
    per_model: sharing,
  };
}
