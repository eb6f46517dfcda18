/**
 * A process that keeps blocks as differences and takes that back, round after round, for a test that kills it:
 * `apply-process.ts <repository>`. Says "ready" before the first round and "round" after each.
 */
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { undoMerges, undoResiduals } from "../../src/store/undo-merges.ts";

const repository = await openRepository(process.argv[2]!);
console.log("ready");
for (;;) {
  await applyTiers(repository, undefined, { tiers: ["lowrank", "residual"], keepOriginals: true });
  await collectGarbage(repository, { graceMs: 0 });
  await undoMerges(repository, undefined);
  await undoResiduals(repository, undefined);
  await collectGarbage(repository, { graceMs: 0 });
  console.log("round");
}
