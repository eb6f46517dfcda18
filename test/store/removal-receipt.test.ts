import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { removeWithReceipt } from "../../src/store/removal-receipt.ts";
import { putSmallModel, randomModel } from "./make-model.ts";
import { temporaryFolder } from "./temporary-folder.ts";

async function storedBytes(root: string): Promise<{ blobs: number; bytes: number }> {
  const folder = join(root, "blobs/sha256");
  const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size));
  return { blobs: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

it("says to the blob what garbage collection then frees, and who needs the rest", async () => {
  const repository = await openRepository(await temporaryFolder(), { create: true });
  const [shared, own] = [randomModel(4).layers, randomModel(2).layers];
  await putSmallModel(repository, "base", { layers: shared });
  await putSmallModel(repository, "half", { layers: shared.slice(0, 2) });
  await putSmallModel(repository, "tuned", { layers: [...shared.slice(0, 3), ...own] });
  const before = await storedBytes(repository.root);

  const { removed, frees, survives } = await removeWithReceipt(repository, "tuned");
  await collectGarbage(repository, { graceMs: 0 });
  const after = await storedBytes(repository.root);
  expect(removed).toBe("tuned");
  expect(frees).toEqual({ blobs: before.blobs - after.blobs, bytes: before.bytes - after.bytes });
  expect(survives.because.map(({ model }) => model)).toEqual(["base", "half"]);
  expect(survives.because[0]).toMatchObject({ blobs: survives.blobs, bytes: survives.bytes });
  expect(survives.because[1]!.bytes).toBeLessThan(survives.bytes);
});

it("frees nothing of a model that has another name too", async () => {
  const repository = await openRepository(await temporaryFolder(), { create: true });
  const model = randomModel(2);
  await putSmallModel(repository, "one", model);
  await putSmallModel(repository, "other", model);
  const { frees, survives } = await removeWithReceipt(repository, "one");
  expect(frees).toEqual({ blobs: 0, bytes: 0 });
  expect(survives.because).toEqual([{ model: "other", blobs: survives.blobs, bytes: survives.bytes }]);
  await expect(removeWithReceipt(repository, "one")).rejects.toMatchObject({ code: "model_not_found" });
});
