import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { expect, it, onTestFinished } from "vitest";

import { addModel } from "../../src/store/add-model.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { undoMerges, undoResiduals } from "../../src/store/undo-merges.ts";
import { findZstd } from "../../src/store/zstd.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "./change-block.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const BASE = resolve(import.meta.dirname, "../../fixtures/desk/optimum/base");
const KILLS = 8;
const TIERS = { tiers: ["lowrank", "residual"], keepOriginals: true } as const;

it("is sound after every moment at which keeping differences was killed, and goes back or on from there", async () => {
  const folder = join(await temporaryFolder(), "blocks");
  await putFamily(await openRepository(folder, { create: true }));
  const asSplit = await documentsOf(folder);

  const watched = start(folder);
  await said(watched, "ready");
  const began = performance.now();
  await said(watched, "round");
  const roundMs = performance.now() - began;
  watched.kill("SIGKILL");
  await once(watched, "exit");

  for (let kill = 0; kill < KILLS; kill++) {
    const child = start(folder);
    await said(child, "ready");
    // Each time in another part of the round, at a random moment of it.
    await new Promise((wake) => setTimeout(wake, ((kill + Math.random()) / KILLS) * roundMs));
    child.kill("SIGKILL");
    await once(child, "exit");
    expect((await checkIntegrity(await openRepository(folder))).problems).toEqual([]);
  }

  const repository = await openRepository(folder);
  await undoMerges(repository, undefined);
  await undoResiduals(repository, undefined);
  expect(await documentsOf(folder)).toEqual(asSplit);
  const { lowrank, residual } = await applyTiers(repository, undefined, TIERS);
  expect(lowrank.blocks).toBe(4);
  expect(residual.tensors > 0).toBe(findZstd() !== null);
  await collectGarbage(repository, { graceMs: 0 });
  expect(await checkIntegrity(repository)).toMatchObject({ problems: [], garbage_blobs: 0, temporaries: 0 });
}, 240_000);

/** base, a LoRA of two layers with a norm of its own, and a fine-tune of one. */
async function putFamily(repository: Repository): Promise<void> {
  await addModel(repository, BASE);
  let seed = 1;
  await putChanged(repository, { from: "base", name: "adapted" }, (values, { dims }, layer) => {
    if (layer !== 1 && layer !== 2) return null;
    if (dims.length === 1) return layer === 1 ? values.map((value) => value * 1.01) : null;
    const random = (count: number) => gaussians(count, seed++);
    return addRank(values, dims as [number, number], { rank: 2, relative: 0.1, random });
  });
  await putChanged(repository, { from: "base", name: "tuned" }, (values, { dims }, layer) => {
    if (layer !== 3 || dims.length !== 2) return null;
    const noise = gaussians(values.length, seed++);
    return values.map((value, at) => value + 1e-4 * noise[at]!);
  });
}

async function documentsOf(folder: string) {
  const repository = await openRepository(folder);
  const entries = await repository.listModels();
  return await Promise.all(entries.map(async (entry) => (await repository.readModelEntry(entry)).document));
}

function start(folder: string): ChildProcess {
  const script = join(import.meta.dirname, "apply-process.ts");
  const child = spawn(process.execPath, ["--import", "tsx", script, folder], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

async function said(child: ChildProcess, word: string): Promise<void> {
  for await (const [piece] of eventsOf(child)) if (String(piece).includes(word)) return;
}

async function* eventsOf(child: ChildProcess): AsyncGenerator<unknown[]> {
  for (;;) yield await once(child.stdout!, "data");
}
