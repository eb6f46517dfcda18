import { describe, expect, it } from "vitest";

import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { reportSharing, sharingOf } from "../../src/store/sharing.ts";
import { contents, putSmallModel, randomModel } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const BASE = ["a", "b", "c"].map((seed) => ({ norm: contents(`norm ${seed}`, 16), weight: contents(seed, 4096) }));

describe("reportSharing", () => {
  it("counts an identical copy, a changed layer and a changed norm", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "base", { layers: BASE });
    await putSmallModel(repository, "copy", { layers: BASE });
    await putSmallModel(repository, "tuned", { layers: [BASE[0]!, BASE[1]!, randomModel(1).layers[0]!] });
    await putSmallModel(repository, "norms", {
      layers: [BASE[0]!, { ...BASE[1]!, norm: contents("new", 16) }, BASE[2]!],
    });
    const report = await reportSharing(repository);

    expect(report).toMatchObject({
      models: 4,
      blocks: 12,
      tiers: { exact: { blocks: 7 }, lowrank: { blocks: 0, saved_bytes: 0 } },
    });
    expect(report.first_divergence).toMatchObject([
      { a: "base", b: "copy", layer: null, kind: null },
      { a: "base", b: "norms", layer: 1, kind: "mlp" },
      { a: "base", b: "tuned", layer: 2, kind: "mlp" },
      { a: "copy", b: "norms", layer: 1, kind: "mlp" },
      { a: "copy", b: "tuned", layer: 2, kind: "mlp" },
      { a: "norms", b: "tuned", layer: 1, kind: "mlp" },
    ]);
    expect(report.pairs).toHaveLength(7);
    expect(report.pairs[0]).toEqual({
      a: "base",
      b: "copy",
      kind: "mlp",
      layer: 0,
      tier: "exact",
      weight_cosine: 1,
      relative_delta: 0,
    });

    const [base, copy, norms] = report.per_model;
    expect(base!.blocks.map((block) => block.shared_with)).toEqual([
      ["copy", "norms", "tuned"],
      ["copy", "tuned"],
      ["copy", "norms"],
    ]);
    expect(norms!.blocks[1]).toMatchObject({ shared_with: [], shared_tensor_bytes: 4096 });
    expect(copy!.unique_bytes).toBe(0);
    expect(await sharingOf(repository, ["norms", "copy"])).toEqual([norms, copy]);
  });

  it("stores what it says: all blobs of a repository without garbage", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "base", { layers: BASE });
    await putSmallModel(repository, "tuned", { layers: [...BASE.slice(0, 2), ...randomModel(1).layers] });
    const report = await reportSharing(repository);
    expect(report.stored_bytes).toBe((await checkIntegrity(repository)).bytes);
    expect(report.logical_bytes - report.tiers.exact.saved_bytes).toBe(report.stored_bytes);
    expect(report.ratio).toBeCloseTo(report.logical_bytes / report.stored_bytes);
    const unique = report.per_model.reduce((sum, model) => sum + model.unique_bytes, 0);
    const shared = report.per_model[0]!.bytes - report.per_model[0]!.unique_bytes;
    expect(unique + shared).toBe(report.stored_bytes);
  });

  it("compares only what it is asked for", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "base", { layers: BASE });
    await putSmallModel(repository, "copy", { layers: BASE });
    const report = await reportSharing(repository, ["base", "base:latest"]);
    expect(report).toMatchObject({ models: 1, ratio: 1, pairs: [], first_divergence: [] });
    await expect(reportSharing(repository, ["nobody"])).rejects.toMatchObject({ code: "model_not_found" });
  });

  it("says where a chain that is longer goes on alone", async () => {
    const repository = await newRepository();
    await putSmallModel(repository, "long", { layers: BASE });
    await putSmallModel(repository, "short", { layers: BASE.slice(0, 2) });
    expect((await reportSharing(repository)).first_divergence).toMatchObject([
      { a: "long", b: "short", layer: 2, kind: "mlp" },
    ]);
  });

  it("shares nothing where nothing is", async () => {
    expect(await reportSharing(await newRepository())).toMatchObject({
      models: 0,
      blocks: 0,
      stored_bytes: 0,
      ratio: 1,
    });
  });
});

async function newRepository(): Promise<Repository> {
  return await openRepository(await temporaryFolder(), { create: true });
}
