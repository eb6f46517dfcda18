import { resolve } from "node:path";
import { beforeEach, expect, it } from "vitest";

import { openForward } from "../../src/engine/forward.ts";
import { addModel } from "../../src/store/add-model.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { gaussians } from "../fingerprint/gaussians.ts";
import { addRank, putChanged } from "../store/change-block.ts";
import { temporaryFolder } from "../store/temporary-folder.ts";

const EXPORTS = resolve(import.meta.dirname, "../../fixtures/exports");
const TOKENS = [1, 5, 9, 3, 20, 11];
const RANK = 4;

let repository: Repository;
beforeEach(async () => {
  repository = await openRepository(await temporaryFolder(), { create: true });
});

/** base, and tuned: a LoRA of every projection that was merged and rounded as the file's weights are. */
async function putPair(path: string): Promise<void> {
  await addModel(repository, resolve(EXPORTS, path), { name: "base" });
  let seed = 1;
  await putChanged(repository, { from: "base", name: "tuned" }, (values, { dims }, layer) => {
    if (dims.length !== 2 || layer === null) return null;
    const random = (count: number) => gaussians(count, seed++);
    return addRank(values, dims as [number, number], { rank: RANK, relative: 0.2, random });
  });
}

async function logits(): Promise<Float32Array> {
  const forward = await openForward(repository, "tuned");
  const all = await forward.logits(TOKENS);
  await forward.close();
  return all;
}

it.each(["contrib/gpt2-fp16", "genai/llama-cuda-fp16", "genai_v0.18.0/gemma3-dml-fp16"])(
  "%s and its merged LoRA in half precision: factors give the same logits to that precision",
  async (path) => {
    await putPair(path);
    const before = await logits();
    const { lowrank } = await applyTiers(repository, undefined, { tiers: ["lowrank"], keepOriginals: true });
    const { chain } = (await repository.readModel("tuned")).document;
    expect(lowrank.blocks).toBe(chain.filter(({ layer }) => layer !== null).length);
    for (const { replaces } of chain) if (replaces) expect(replaces.evidence).toMatchObject({ rank: RANK });
    const after = await logits();
    const size = before.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const most = before.reduce((worst, value, at) => Math.max(worst, Math.abs(value - after[at]!)), 0);
    expect(most).toBeGreaterThan(0);
    expect(most / size).toBeLessThan(2 ** -9);
  },
);
