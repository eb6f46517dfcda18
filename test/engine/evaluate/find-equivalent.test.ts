import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { EquivalentReport } from "../../../src/engine/evaluate/equivalent-report.ts";
import { type EquivalentOptions, findEquivalent } from "../../../src/engine/evaluate/find-equivalent.ts";
import { mergeModels } from "../../../src/engine/evaluate/merge-models.ts";
import { type Calibration, readCalibration } from "../../../src/engine/evaluate/read-calibration.ts";
import { openForward } from "../../../src/engine/forward.ts";
import { compareProbabilities } from "../../../src/engine/evaluate/drift.ts";
import { addModel } from "../../../src/store/add-model.ts";
import { openRepository } from "../../../src/store/open-repository.ts";
import type { Repository } from "../../../src/store/repository.ts";
import { readModels } from "../../../src/store/sharing.ts";
import { markExactOnly, undoMerges } from "../../../src/store/undo-merges.ts";
import { FIXTURES } from "../../blocks/split-fixtures.ts";
import { alterModel, HIDDEN, type LayerWeights, NEURONS } from "./altered-model.ts";

const PROMPTS = 18;
const BUDGET = { max_kl: 0.02 };

let root = "";
let calibration: Calibration;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "blockllm-equivalent-"));
  const whole = await readCalibration([{ path: join(FIXTURES, "desk/eval/support.json"), models: null }]);
  calibration = { ...whole, lines: whole.lines.slice(0, PROMPTS) };
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

/** A repository with `support` and a copy of it that was changed. */
async function withAltered(change: (layers: LayerWeights[]) => void): Promise<Repository> {
  const folder = await mkdtemp(join(root, "family-"));
  const repository = await openRepository(join(folder, "blocks"), { create: true });
  await addModel(repository, join(FIXTURES, "desk/optimum/support"));
  await addModel(repository, await alterModel("support", { into: folder, name: "other", change }));
  return repository;
}

async function find(repository: Repository, options: Partial<EquivalentOptions> = {}) {
  const models = await readModels(repository);
  const findings = await findEquivalent(repository, models, {
    calibration,
    budget: BUDGET,
    threshold: 0.8,
    ...options,
  });
  return { models, findings, report: findings.report };
}

const placesOf = ({ pairs }: EquivalentReport): string[] =>
  pairs.map(({ kind, layer }) => `${kind} ${layer}`).toSorted();

/** The neuron that writes most into the hidden rows, written with the other sign. */
async function logitsOf(repository: Repository, name: string): Promise<Float32Array> {
  const forward = await openForward(repository, name);
  try {
    return await forward.logits([1, 17, 200, 9, 45, 77]);
  } finally {
    await forward.close();
  }
}

function negateLargestNeuron({ down }: LayerWeights): void {
  const norm = (neuron: number): number =>
    down.subarray(neuron * HIDDEN, (neuron + 1) * HIDDEN).reduce((sum, value) => sum + value * value, 0);
  const neurons = Array.from({ length: NEURONS }, (_, neuron) => neuron);
  const largest = neurons.reduce((best, neuron) => (norm(neuron) > norm(best) ? neuron : best));
  for (let i = largest * HIDDEN; i < (largest + 1) * HIDDEN; i++) down[i] = -down[i]!;
}

/** The same function of other numbers: neurons in another order, each written and read at another scale. */
function permuteNeurons({ gate, up, down }: LayerWeights): void {
  const before = { gate: gate.slice(), up: up.slice(), down: down.slice() };
  for (let to = 0; to < NEURONS; to++) {
    const from = (to * 53 + 7) % NEURONS;
    const scale = 2 ** ((to % 5) - 2);
    for (let i = 0; i < HIDDEN; i++) {
      gate[i * NEURONS + to] = before.gate[i * NEURONS + from]!;
      up[i * NEURONS + to] = before.up[i * NEURONS + from]! * scale;
      down[to * HIDDEN + i] = before.down[from * HIDDEN + i]! / scale;
    }
  }
}

/** Queries larger and keys smaller by the same factor give the same scores. */
function rescaleKeys({ q, k }: LayerWeights): void {
  for (let i = 0; i < q.length; i++) q[i] = q[i]! * 8;
  for (let i = 0; i < k.length; i++) k[i] = k[i]! / 8;
}

/** Noise of a multiple of the weights' own size. */
function disturb({ down }: LayerWeights, seed: number, amount: number): void {
  const size = Math.sqrt(down.reduce((sum, value) => sum + value * value, 0) / down.length);
  let state = seed;
  for (let i = 0; i < down.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    down[i] = down[i]! + (state / 2 ** 31 - 1) * Math.sqrt(3) * size * amount;
  }
}

describe("planted traps", () => {
  it("does not merge a block whose weights are nearly the same and whose outputs are not", async () => {
    const repository = await withAltered((layers) => negateLargestNeuron(layers[0]!));
    const { report, findings } = await find(repository);
    expect(report.compared).toBe(2);
    expect(report.refused).toHaveLength(2);
    for (const refused of report.refused) {
      expect(refused).toMatchObject({ kind: "mlp", layer: 0, reason: "alone beyond the budget" });
      expect(refused.weight_cosine).toBeGreaterThan(0.99);
      expect(refused.kl).toBeGreaterThan(BUDGET.max_kl);
    }
    expect(findings.merges).toEqual([]);
    expect(report.tier).toEqual({ blocks: 0, saved_bytes: 0 });
  });

  it("merges where the very same change of the weights changes no answer", async () => {
    const { report } = await find(await withAltered((layers) => negateLargestNeuron(layers[1]!)));
    expect(placesOf(report)).toEqual(["mlp 1"]);
    expect(report.pairs[0]!.kl).toBeLessThan(1e-3);
  });

  it("merges blocks whose weights are far apart and whose outputs are the same", async () => {
    const repository = await withAltered((layers) => {
      permuteNeurons(layers[3]!);
      rescaleKeys(layers[2]!);
    });
    const { report } = await find(repository);
    expect(placesOf(report)).toEqual(["attention 2", "mlp 3"]);
    for (const { weight_cosine, output_cosine, kl, top1 } of report.pairs) {
      expect(weight_cosine).toBeLessThan(0.7);
      expect(output_cosine).toBeGreaterThan(0.999999);
      expect(kl).toBeLessThan(1e-9);
      expect(top1).toBe(1);
    }
    expect(report.models.every(({ held_out }) => held_out.kl < 1e-9)).toBe(true);
  });

  it("merges nothing when the budget is too tight, nor without one", async () => {
    const repository = await withAltered((layers) => disturb(layers[2]!, 3, 0.3));
    const tight = await find(repository, { budget: { max_kl: 1e-9 } });
    expect(tight.findings.merges).toEqual([]);
    expect(new Set(tight.report.refused.map(({ reason }) => reason))).toEqual(new Set(["alone beyond the budget"]));
    const none = await find(repository, { budget: {} });
    expect(none.findings.merges).toEqual([]);
    expect(new Set(none.report.refused.map(({ reason }) => reason))).toEqual(new Set(["no budget"]));
    expect((await find(repository)).findings.merges).toHaveLength(1);
    expect((await find(repository, { budget: { min_top1: 0.9 } })).findings.merges).toHaveLength(1);
    expect((await find(repository, { threshold: 0.9999 })).report.measured).toBe(0);
  });

  it("takes back what passes alone and breaks the budget together", async () => {
    const repository = await withAltered((layers) => {
      for (const layer of [1, 2, 3, 4]) disturb(layers[layer]!, layer, 1.2);
    });
    const { report, findings } = await find(repository);
    const together = report.refused.filter(({ reason }) => reason.startsWith("beyond the budget"));
    expect(together.length).toBeGreaterThan(0);
    for (const { kl } of together) expect(kl).toBeLessThanOrEqual(BUDGET.max_kl);
    expect(findings.merges.length).toBeGreaterThan(0);
    for (const { choosing, held_out } of report.models) {
      for (const { kl, kl_answers } of [choosing, held_out])
        expect(Math.max(kl, kl_answers)).toBeLessThanOrEqual(BUDGET.max_kl);
    }
  });
});

describe("findEquivalent", () => {
  it("gives the same every time, and what it says is what the merged model does", async () => {
    const repository = await withAltered((layers) => disturb(layers[2]!, 3, 0.8));
    const before = new Map<string, Float32Array>();
    for (const name of ["support", "other"]) before.set(name, await logitsOf(repository, name));
    const { models, findings, report } = await find(repository);
    expect((await find(repository)).report).toEqual(report);
    expect(report.pairs).toHaveLength(1);

    const [changed] = await mergeModels(repository, models, { findings, keepOriginals: true });
    const { document } = await repository.readModel(changed!);
    const [merged, ...more] = document.chain.filter(({ replaces }) => replaces);
    expect(more).toEqual([]);
    const measured = report.models.find(({ model }) => model === changed)!;
    expect(merged).toMatchObject({
      digest: report.pairs[0]!.by,
      replaces: {
        tier: "equivalent",
        digest: report.pairs[0]!.block,
        kept: true,
        evidence: {
          kl: measured.held_out.kl,
          top1: measured.held_out.top1,
          calibration: calibration.digest,
          max_kl: 0.02,
        },
      },
    });
    const after = await logitsOf(repository, changed!);
    expect(compareProbabilities(before.get(changed!)!.slice(0, 512), after.slice(0, 512)).kl).toBeLessThan(0.5);
    expect(after).not.toEqual(before.get(changed!));

    await undoMerges(repository, [changed!]);
    expect(await logitsOf(repository, changed!)).toEqual(before.get(changed!));
  });

  it("leaves models alone that are exact only or were not asked, and blocks that they need", async () => {
    const repository = await withAltered(permute3);
    await markExactOnly(repository, ["other"], { exactOnly: true });
    const { report } = await find(repository);
    expect(report.left_out).toEqual([{ model: "other", reason: "it is marked exact only" }]);
    expect(report.pairs.map(({ a, b }) => ({ a, b }))).toEqual([{ a: "other", b: "support" }]);

    const lines = calibration.lines.map((line) => ({ ...line, models: ["other"] }));
    const nobody = await find(repository, { calibration: { ...calibration, lines } });
    expect(nobody.report).toMatchObject({ compared: 0, models: [], pairs: [] });
    expect(nobody.report.left_out.map(({ model }) => model)).toEqual(["other", "support"]);
  });

  it("merges a model no further that gave its originals up: the budget would begin anew", async () => {
    const repository = await withAltered(permute3);
    const { models, findings } = await find(repository);
    const [changed] = await mergeModels(repository, models, { findings, keepOriginals: false });
    const { report } = await find(repository);
    expect(report.pairs).toEqual([]);
    expect(report.left_out).toEqual([
      { model: changed, reason: "originals of 1 merged blocks were not kept", without_originals: 1 },
    ]);

    const unasked = calibration.lines.map((line) => ({ ...line, models: ["other"] }));
    const { report: later } = await find(repository, { calibration: { ...calibration, lines: unasked } });
    expect(later.left_out.find(({ model }) => model === changed)).toMatchObject({ without_originals: 1 });
  });

  it("refuses lines for models that are not there and prompts that do not fit", async () => {
    const repository = await withAltered(permute3);
    const [line] = calibration.lines;
    for (const wrong of [{ models: ["nobody"] }, { question: { prompt: "printer ".repeat(600) } }]) {
      const lines = [...calibration.lines, { ...line!, ...wrong, place: "line 9 of asked.jsonl" }];
      const finding = find(repository, { calibration: { ...calibration, lines } });
      await expect(finding).rejects.toMatchObject({
        code: "usage",
        message: expect.stringContaining("line 9 of asked.jsonl"),
      });
    }
  });

  it("stops when it is told to", async () => {
    const repository = await withAltered(permute3);
    await expect(find(repository, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});

function permute3(layers: LayerWeights[]): void {
  permuteNeurons(layers[3]!);
}
