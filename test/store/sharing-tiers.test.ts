import { resolve } from "node:path";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { addModel } from "../../src/store/add-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { type DifferentPair, reportTiers, type TieredReport } from "../../src/store/sharing-tiers.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "./change-block.ts";

const DESK = resolve(import.meta.dirname, "../../fixtures/desk");
const ADAPTERS = ["support", "legal", "finance"];
const MODELS = ["base", "mirror", ...ADAPTERS, "hr", "sales", "research", "support-v2"];
const LAYERS = 6;
const VOCABULARY = 512;
const HIDDEN = 64;

let folder = "";
let repository: Repository;
let report: TieredReport;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "blockllm-test-"));
  repository = await openRepository(folder, { create: true });
  for (const name of MODELS) await addModel(repository, join(DESK, "optimum", name));
  report = await reportTiers(repository, undefined, { tiers: ["lowrank", "residual"] });
}, 60_000);
afterAll(async () => await rm(folder, { recursive: true, force: true }));

const differing = (): DifferentPair[] => report.pairs.filter((pair) => "tensors" in pair);
const pairsOf = (name: string): DifferentPair[] => differing().filter(({ b }) => b === name);

describe("the desk family", () => {
  it.each(ADAPTERS)("%s is the base and an adapter of rank 8 on all seven projections of every layer", (name) => {
    const pairs = pairsOf(name);
    expect(pairs).toHaveLength(2 * LAYERS);
    for (const pair of pairs) {
      expect(pair).toMatchObject({ a: "base", tier: "lowrank", rank: 8 });
      expect(pair.residual_error!.relative).toBeLessThan(1e-6);
      expect(pair.tensors.map(({ rank }) => rank)).toEqual(pair.kind === "mlp" ? [8, 8, 8] : [8, 8, 8, 8]);
    }
  });

  it("counts the factors' bytes exactly", () => {
    const [hidden, keys, inner] = [64, 32, 176];
    const shapes = [
      [hidden, hidden],
      [hidden, keys],
      [hidden, keys],
      [hidden, hidden],
    ];
    shapes.push([hidden, inner], [hidden, inner], [inner, hidden]);
    const saved = shapes.reduce((sum, [rows, columns]) => sum + 4 * (rows! * columns! - 8 * (rows! + columns!)), 0);
    expect(report.tiers.lowrank).toEqual({
      blocks: ADAPTERS.length * 2 * LAYERS,
      saved_bytes: ADAPTERS.length * LAYERS * saved,
    });
  });

  it("needs nothing for an identical copy", () => {
    expect(pairsOf("mirror")).toEqual([]);
    expect(report.pairs.filter(({ b, tier }) => b === "mirror" && tier === "exact")).toHaveLength(2 * LAYERS + 2);
  });

  it.each([
    ["hr", ["4 attention", "4 mlp", "5 attention", "5 mlp"]],
    ["sales", ["5 mlp"]],
    ["support-v2", ["5 attention"]],
  ])("%s is a residual where it was trained, and only there", (name, places) => {
    const pairs = pairsOf(name);
    expect(pairs.map(({ layer, kind }) => `${layer} ${kind}`).toSorted()).toEqual(places);
    for (const { tier, residual_ratio } of pairs) {
      expect(tier).toBe("residual");
      expect(residual_ratio).toBeGreaterThan(1.1);
    }
  });

  it("finds no low rank in a full fine-tune, but shrinks it without loss", () => {
    const pairs = pairsOf("research");
    expect(pairs.length).toBeGreaterThanOrEqual(2 * LAYERS);
    expect(new Set(pairs.map(({ tier }) => tier))).toEqual(new Set(["residual"]));
    expect(
      pairs.flatMap(({ tensors }) => tensors.filter(({ dims }) => dims.length > 1)).every((one) => !one.rank),
    ).toBe(true);
  });

  it("adds up", () => {
    const { lowrank, residual } = report.tiers;
    for (const tier of ["lowrank", "residual"] as const) {
      const pairs = differing().filter((pair) => pair.tier === tier);
      expect(pairs).toHaveLength(report.tiers[tier].blocks);
      expect(pairs.reduce((sum, { saved_bytes }) => sum + saved_bytes, 0)).toBe(report.tiers[tier].saved_bytes);
    }
    expect(report.reachable_bytes).toBe(report.stored_bytes - lowrank.saved_bytes - residual.saved_bytes);
  });
});

describe("reportTiers", () => {
  it("measures only what it is asked for", async () => {
    const names = ["base", "legal", "research"];
    const exact = await reportTiers(repository, names, { tiers: [] });
    expect(exact.pairs.every(({ tier }) => tier === "exact")).toBe(true);
    expect(exact.reachable_bytes).toBe(exact.stored_bytes);

    const lowrank = await reportTiers(repository, names, { tiers: ["lowrank"] });
    expect(lowrank.tiers).toMatchObject({ lowrank: { blocks: 2 * LAYERS }, residual: { blocks: 0 } });

    const residual = await reportTiers(repository, names, { tiers: ["residual"] });
    expect(residual.tiers.lowrank.blocks).toBe(0);
    expect(residual.pairs.filter(({ b, tier }) => b === "legal" && tier === "residual")).toHaveLength(2 * LAYERS);
  });

  it("finds the same in another exporter's files under other names", async () => {
    for (const name of ["base", "legal"])
      await addModel(repository, join(DESK, "genai", name), { name: `${name}-elsewhere` });
    const elsewhere = await reportTiers(repository, ["base-elsewhere", "legal"], { tiers: ["lowrank"] });
    expect(elsewhere.tiers.lowrank.blocks).toBe(2 * LAYERS);
    const copies = await reportTiers(repository, ["legal", "legal-elsewhere"], { tiers: ["lowrank", "residual"] });
    expect(copies.pairs.filter(({ tier }) => tier !== "exact")).toEqual([]);
  });

  it("counts a tied table once that is factors in the head and a residual in the embedding", async () => {
    const isTable = ({ dims }: { dims: number[] }) => dims[0] === VOCABULARY;
    await putChanged(repository, { from: "base", name: "tied" }, (values, tensor) => {
      if (!isTable(tensor)) return null;
      return addRank(values, [VOCABULARY, HIDDEN], {
        rank: 4,
        relative: 0.1,
        random: (count) => gaussians(count, count),
      });
    });
    const { pairs } = await reportTiers(repository, ["base", "tied"], { tiers: ["lowrank", "residual"] });
    const [embedding, head] = ["embedding", "head"].map(
      (kind) => pairs.find((pair) => pair.kind === kind && pair.tier !== "exact") as DifferentPair,
    );
    expect(embedding).toMatchObject({ tier: "residual", rank: 4, tensors: [{ rank: 4 }] });
    expect(embedding!.saved_bytes).toBeGreaterThan(0);
    expect(head).toMatchObject({ tier: "lowrank", rank: 4, saved_bytes: -4 * 4 * (VOCABULARY + HIDDEN) });
  });

  it("says which tensors were too large to be looked into, and keeps them as they are", async () => {
    const table = 4 * VOCABULARY * HIDDEN;
    const options = { tiers: ["lowrank", "residual"] as const, mostTensorBytes: table - 1 };
    const { too_large, pairs } = await reportTiers(repository, ["base", "research"], options);
    expect(too_large.map(({ model, kind, bytes }) => ({ model, kind, bytes }))).toEqual(
      expect.arrayContaining([{ model: "research", kind: "embedding", bytes: table }]),
    );
    expect(pairs.some(({ kind, tier }) => kind === "embedding" && tier !== "exact")).toBe(false);
    expect((await reportTiers(repository, ["base", "legal"], { tiers: ["lowrank"] })).too_large).toEqual([]);
  });

  it("stops when it is told to", async () => {
    await expect(
      reportTiers(repository, ["base", "legal"], {
        tiers: ["lowrank"],
        signal: AbortSignal.abort(new Error("enough")),
      }),
    ).rejects.toThrow("enough");
  });
});
