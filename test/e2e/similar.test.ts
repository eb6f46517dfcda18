import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeWorkplace, removeWorkplace, run, runError, runJson } from "./blockllm.ts";

interface Similar {
  block: { model: string; kind: string; layer: number };
  neighbours: {
    places: { model: string; layer: number }[];
    same_digest: boolean;
    weight_cosine: number;
    low_rank: { rank: number; exact: boolean } | null;
  }[];
}

let folder = "";

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  await runJson(folder, "split", ...["base", "mirror", "legal"].map((name) => `fixtures/desk/optimum/${name}`));
});
afterAll(() => removeWorkplace(folder));

describe("similar", () => {
  it("finds the copy first, then the fine-tune of the same layer", async () => {
    const { block, neighbours } = await runJson<Similar>(folder, "similar", "base:mlp.3", "--top", "2");
    expect(block).toMatchObject({ model: "base", kind: "mlp", layer: 3 });
    expect(neighbours).toMatchObject([
      { places: [{ model: "mirror", layer: 3 }], same_digest: true, weight_cosine: 1 },
      { places: [{ model: "legal", layer: 3 }], same_digest: false, low_rank: { rank: 8, exact: true } },
    ]);
  });

  it("says why to people", async () => {
    const { code, stdout } = await run(folder, "similar", "base:attention.0");
    expect(code).toBe(0);
    expect(stdout).toMatch(/mirror:attention\.0 .*same digest/);
    expect(stdout).toMatch(/legal:attention\.0 .*a merged LoRA: .* by rank 8/);
    expect(stdout).toMatch(/legal:attention\.1 .*unrelated weights; .* differs most, by/);
  });

  it("refuses what names no block", async () => {
    expect(await runError(folder, "similar", "base")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "similar", "base:mlp.99")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "similar", "nobody:mlp.0")).toMatchObject({ exit: 2, code: "model_not_found" });
  });
});

describe("dedupe --tiers", () => {
  it("finds the merged adapter", async () => {
    const { code, stdout } = await run(folder, "dedupe", "--tiers", "exact,lowrank");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^legal +base +12 +low rank 8 /m);
    expect(stdout).toContain("nothing has been rewritten");
  });

  it("looks for nothing more when only equal blocks are asked for", async () => {
    const { pairs } = await runJson<{ pairs: { tier: string }[] }>(folder, "dedupe", "--tiers", "exact");
    expect(pairs.every(({ tier }) => tier === "exact")).toBe(true);
  });

  it("refuses a tier that is none", async () => {
    expect(await runError(folder, "dedupe", "--tiers", "exact,magic")).toMatchObject({ exit: 2, code: "usage" });
  });
});
