import { expect, it } from "vitest";

import { printTiers } from "../../../src/cli/output/tiers.ts";

type Report = Parameters<typeof printTiers>[0];

const NONE = { blocks: 0, saved_bytes: 0 };
const PAIR: Report["pairs"][number] = {
  a: "base",
  b: "legal",
  kind: "mlp",
  layer: 3,
  tier: "lowrank",
  weight_cosine: 0.9,
  relative_delta: 0.4,
  saved_bytes: 5000,
  rank: 8,
  tensors: [],
};

function print(changes: Partial<Report>): string {
  const report = {
    models: [],
    blocks: 28,
    logical_bytes: 20_000,
    stored_bytes: 15_000,
    ratio: 4 / 3,
    kept_original_bytes: 0,
    first_divergence: [],
    per_model: [],
    tiers: { exact: NONE, lowrank: NONE, residual: NONE, equivalent: NONE },
    done: { lowrank: NONE, residual: NONE },
    pairs: [],
    too_large: [],
    reachable_bytes: 10_000,
    reachable_ratio: 2,
    ...changes,
  };
  return printTiers(report as Report).join("\n");
}

it("says nothing where nothing differs by little", () => {
  expect(print({})).toBe("");
});

it("tells what is done from what could be", () => {
  const tiers = {
    exact: NONE,
    lowrank: { blocks: 3, saved_bytes: 9000 },
    residual: { blocks: 4, saved_bytes: 2000 },
    equivalent: NONE,
  };
  const done = { lowrank: { blocks: 2, saved_bytes: 4000 }, residual: { blocks: 4, saved_bytes: 2000 } };
  const text = print({ tiers, done, pairs: [PAIR] });
  expect(text).toContain("low rank: 2 blocks as factors saved 4.00 kB");
  expect(text).toContain("lossless residual: 4 blocks saved 2.00 kB");
  expect(text).toContain("low rank: 1 block as factors would save 5.00 kB");
  expect(text.match(/lossless residual/g)).toHaveLength(1);
  expect(text).toContain("nothing has been rewritten");
});

it("does not say that nothing was rewritten where something was", () => {
  const undone = { models: [] } as unknown as NonNullable<Report["undone"]>;
  expect(print({ pairs: [PAIR], undone })).not.toContain("rewritten");
});
