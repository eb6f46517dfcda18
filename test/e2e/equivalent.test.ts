import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { Dedupe } from "../../src/cli/commands/dedupe.ts";
import type { Verified } from "../../src/cli/commands/verify.ts";
import { DESK, makeWorkplace, removeWorkplace, run, runError, runJson } from "./blockllm.ts";

const CALIBRATION = ["--calibration", "base,legal=asked.jsonl"];
const PROMPTS = 30;

let folder = "";
beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  const questions = JSON.parse(readFileSync(join(DESK, "eval/legal.json"), "utf8")) as object[];
  const lines = questions.slice(0, PROMPTS).map((question) => JSON.stringify(question));
  writeFileSync(join(folder, "asked.jsonl"), lines.join("\n"));
  await runJson(folder, "split", "fixtures/desk/optimum/base", "fixtures/desk/optimum/legal");
});
afterAll(() => removeWorkplace(folder));

const dedupe = async (...options: string[]) => await runJson<Dedupe>(folder, "dedupe", ...options);

describe("dedupe --calibration", () => {
  it("says what could merge and what it would cost, and changes nothing", async () => {
    const before = await dedupe("--tiers", "exact");
    const { tiers, pairs, equivalent, gate } = await dedupe(...CALIBRATION, "--max-kl", "0.02");
    const merges = pairs.filter(({ tier }) => tier === "equivalent");
    expect(merges.length).toBeGreaterThan(0);
    expect(tiers.equivalent).toEqual({
      blocks: merges.length,
      saved_bytes: merges.reduce((sum, pair) => sum + ("saved_bytes" in pair ? pair.saved_bytes : 0), 0),
    });
    for (const pair of merges) {
      expect(pair).toMatchObject({ a: expect.any(String), b: expect.any(String), kind: expect.any(String) });
      for (const key of ["weight_cosine", "relative_delta", "output_cosine", "kl", "top1"] as const)
        expect(Number.isFinite((pair as unknown as Record<string, number>)[key])).toBe(true);
    }
    expect(gate).toEqual({ passed: true, max_kl: 0.02, beyond_budget: [] });
    const [base, legal] = equivalent!.models;
    expect([base!.model, legal!.model]).toEqual(["base", "legal"]);
    for (const { choosing, held_out, accuracy } of equivalent!.models) {
      expect(choosing.prompts + held_out.prompts).toBe(PROMPTS);
      expect(Math.max(held_out.kl, held_out.kl_answers)).toBeLessThanOrEqual(0.02);
      expect(accuracy).toMatchObject({ asked: held_out.prompts });
      const [low, high] = accuracy!.after_interval;
      expect(low).toBeLessThanOrEqual(accuracy!.after);
      expect(high).toBeGreaterThanOrEqual(accuracy!.after);
    }
    expect(legal!.accuracy!.before).toBe(1);
    expect(await dedupe("--tiers", "exact")).toEqual(before);
  });

  it("merges, says so everywhere, keeps watch, and goes back", async () => {
    const asked = [...CALIBRATION, "--tiers", "equivalent", "--max-kl", "0.02"];
    const before = await dedupe("--tiers", "exact");
    const possible = await dedupe(...asked);
    const applied = await dedupe(...asked, "--apply");
    expect(applied.applied).toMatchObject({
      equivalent: { blocks: possible.equivalent!.tier.blocks },
      originals: "kept",
    });
    const { blocks, saved_bytes } = possible.equivalent!.tier;
    expect(applied.tiers.equivalent.blocks).toBe(blocks);
    // Manifests that list what is kept to go back, and documents with the evidence, are longer.
    const documents = saved_bytes - applied.tiers.equivalent.saved_bytes;
    expect(documents).toBeGreaterThan(0);
    expect(documents).toBeLessThan(10_000 * applied.applied!.models.length);
    expect(applied.serving.shared_bytes).toBeLessThan(before.serving.shared_bytes);
    expect(applied.equivalent).toEqual(possible.equivalent);

    const [changed] = applied.applied!.models;
    const measured = possible.equivalent!.models.find(({ model }) => model === changed)!;
    const shown = await runJson<{ blocks: { replaces?: { tier: string; evidence: object } }[] }>(
      folder,
      "show",
      changed!,
    );
    const replaced = shown.blocks.flatMap(({ replaces }) => replaces ?? []);
    expect(replaced).toHaveLength(measured.merged_blocks);
    expect(replaced[0]).toMatchObject({
      tier: "equivalent",
      evidence: { kl: measured.held_out.kl, accuracy_after: measured.accuracy!.after, max_kl: 0.02 },
    });

    const verified = await runJson<Verified>(folder, "verify", changed!, ...CALIBRATION, "--max-kl", "0.5");
    expect(verified).toMatchObject({ passed: true, gate: { passed: true, max_kl: 0.5 } });
    expect(verified.drift).toMatchObject({ merged_blocks: replaced.length, without_originals: 0, prompts: PROMPTS });
    expect(verified.drift!.kl).toBeGreaterThan(0);
    const strict = await run(folder, "--json", "verify", changed!, ...CALIBRATION, "--max-kl", "1e-9");
    expect({ code: strict.code, gate: (JSON.parse(strict.stdout) as Verified).gate }).toEqual({
      code: 3,
      gate: { passed: false, max_kl: 1e-9 },
    });

    const watched = await run(folder, "--json", "dedupe", ...CALIBRATION, "--tiers", "equivalent", "--max-kl", "1e-9");
    expect(watched.code).toBe(3);
    expect((JSON.parse(watched.stdout) as Dedupe).gate).toMatchObject({
      passed: false,
      beyond_budget: applied.applied!.models.toSorted(),
    });

    await dedupe("--undo", "--tiers", "equivalent");
    expect(await dedupe("--tiers", "exact")).toEqual(before);
    expect((await runJson<Verified>(folder, "verify", changed!)).drift).toBeNull();
  });

  it("does not take what cannot be measured any more for kept", async () => {
    const other = makeWorkplace();
    await runJson(other, "split", "fixtures/desk/optimum/support", "fixtures/desk/optimum/support-v2");
    const asked = ["--calibration", "fixtures/desk/eval/support.json", "--tiers", "equivalent", "--max-kl", "0.001"];
    const { applied } = await runJson<Dedupe>(other, "dedupe", ...asked, "--apply", "--no-keep-originals");
    const [changed] = applied!.models;
    const verified = await run(other, "--json", "verify", changed!, "--max-kl", "0.001");
    expect(verified.code).toBe(3);
    expect(JSON.parse(verified.stdout) as Verified).toMatchObject({
      passed: true,
      gate: { passed: false },
      drift: { merged_blocks: 1, without_originals: 1 },
    });
    const watched = await run(other, "--json", "dedupe", ...asked);
    expect(watched.code).toBe(3);
    const { gate, equivalent } = JSON.parse(watched.stdout) as Dedupe;
    expect(gate).toEqual({ passed: false, max_kl: 0.001, beyond_budget: [], unmeasured: [changed] });
    expect(equivalent!.left_out).toMatchObject([{ model: changed, without_originals: 1 }]);
  });

  it("tells people", async () => {
    const { code, stdout } = await run(
      folder,
      "--quiet",
      "dedupe",
      ...CALIBRATION,
      "--max-kl",
      "0.02",
      "--tiers",
      "equivalent",
    );
    expect(code).toBe(0);
    expect(stdout).toContain("could give way to others that behave alike (mean KL at most 0.02)");
    expect(stdout).toContain("right answers before");
    const without = await run(folder, "--quiet", "dedupe");
    expect(without.stdout).toContain(
      "blocks that behave alike were not looked for: no prompts say what the models are asked",
    );
  });

  it("refuses a budget without prompts, and prompts that are none", async () => {
    expect(await runError(folder, "dedupe", "--max-kl", "0.02")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "dedupe", "--tiers", "equivalent")).toMatchObject({ exit: 2, code: "usage" });
    writeFileSync(join(folder, "wrong.jsonl"), '{"prompt": "a"}\n{"promt": "b"}\n');
    const wrong = await runError(folder, "dedupe", "--calibration", "wrong.jsonl", "--max-kl", "0.02");
    expect(wrong).toMatchObject({ exit: 2, code: "usage", message: expect.stringContaining("line 2 of wrong.jsonl") });
    const nobody = await runError(folder, "dedupe", "--calibration", "nobody=fixtures/desk/eval/hr.json");
    expect(nobody).toMatchObject({ exit: 2, code: "usage", message: expect.stringContaining("nobody") });
  });
});
