import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { planChains } from "../../src/chain/plan.ts";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { readSegment } from "../../src/engine/execute/read-segment.ts";
import { openSession } from "../../src/engine/execute/rebuilt-weights.ts";
import { openForward } from "../../src/engine/forward.ts";
import { verifyModel } from "../../src/engine/verify-model.ts";
import { addModel } from "../../src/store/add-model.ts";
import { applyTiers } from "../../src/store/apply-tiers.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { reportSharing } from "../../src/store/sharing.ts";

const DESK = resolve(import.meta.dirname, "../../fixtures/desk");
const MODELS = ["hr", "research", "support", "support-int4"];
const TOKENS = [5, 17, 300, 2, 44, 9];

let folder = "";
let repository: Repository;
let before: Map<string, Float32Array>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "blockllm-test-"));
  repository = await openRepository(folder, { create: true });
  for (const name of ["base", "hr", "research", "support"]) await addModel(repository, join(DESK, "optimum", name));
  for (const name of ["base", "support"])
    await addModel(repository, join(DESK, "genai-int4", name), { name: `${name}-int4` });
  before = await allLogits();
  await applyTiers(repository, undefined, { tiers: ["residual"], keepOriginals: true });
  await collectGarbage(repository, { graceMs: 0 });
}, 60_000);
afterAll(async () => await rm(folder, { recursive: true, force: true }));

async function allLogits(): Promise<Map<string, Float32Array>> {
  const logits = new Map<string, Float32Array>();
  for (const name of MODELS) {
    const forward = await openForward(repository, name);
    logits.set(name, await forward.logits(TOKENS));
    await forward.close();
  }
  return logits;
}

describe("models whose weights are stored as residuals", () => {
  it("give the same logits, bit for bit", async () => {
    expect((await reportSharing(repository)).tiers.residual.blocks).toBeGreaterThan(20);
    const after = await allLogits();
    for (const name of MODELS) expect(Buffer.compare(bytes(after.get(name)!), bytes(before.get(name)!)), name).toBe(0);
  });

  it("are exported whole", async () => {
    const { passed, max_abs_logit_diff } = await verifyModel(repository, "research");
    expect({ passed, close: max_abs_logit_diff < 1e-4 }).toEqual({ passed: true, close: true });
  });

  it("say which model cannot be loaded when a residual is missing", async () => {
    const other = await openRepository(folder);
    const missing = [...(await other.residuals()).values()][0]!;
    const path = other.blobs.path(missing.blob.digest);
    await rm(path);
    await expect(other.blobs.read(missing.tensor)).rejects.toMatchObject({ code: "blob_missing" });
  });
});

it("weights that are too many for one graph are handed over beside it", async () => {
  const chain = await resolveChain(repository, "base");
  const plan = planChains(chain.kind === "blocks" ? [chain] : []);
  const last = plan.segments.at(-1)!;
  const { model, folder: weights } = await readSegment(last, repository);
  const rows = new Tensor(
    "float32",
    Float32Array.from({ length: 64 }, (_, i) => i / 64),
    [1, 1, 64],
  );
  const results = [];
  for (const options of [{}, { mostInside: -1 }]) {
    const session = await openSession(model, { folder: weights, threads: 1, ...options });
    const { logits } = await session.run({ hidden: rows });
    results.push(bytes(logits!.data as Float32Array));
    await session.release();
  }
  expect(Buffer.compare(results[0]!, results[1]!)).toBe(0);
});

function bytes(values: Float32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}
