import { expect, it, vi } from "vitest";

import { printTiers } from "../../src/cli/output/tiers.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { reportTiers } from "../../src/store/sharing-tiers.ts";
import { contents, putSmallModel } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

vi.mock(import("../../src/store/zstd.ts"), async (original) => ({ ...(await original()), findZstd: () => null }));

it("a machine without zstd reports everything else, and says what to install", async () => {
  const repository = await openRepository(await temporaryFolder(), { create: true });
  const norm = contents("norm", 16);
  await putSmallModel(repository, "base", { layers: [{ norm, weight: contents("a", 4096) }] });
  await putSmallModel(repository, "tuned", { layers: [{ norm, weight: contents("b", 4096) }] });
  const report = await reportTiers(repository, undefined, { tiers: ["lowrank", "residual"] });
  expect(report.tiers.residual).toMatchObject({ blocks: 0, saved_bytes: 0 });
  expect(report.tiers.residual.unavailable).toContain("@toondepauw/node-zstd");
  expect(report.reachable_bytes).toBe(report.stored_bytes);
  expect(printTiers(report).join("\n")).toContain("Node 22.15");
});
