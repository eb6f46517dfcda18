import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeWorkplace, removeWorkplace, ROOT, run, runError, runJson } from "./blockllm.ts";

interface Deduped {
  logical_bytes: number;
  stored_bytes: number;
  applied?: {
    models: string[];
    lowrank: { blocks: number };
    residual: { tensors: number };
    originals: string;
    before: { stored_bytes: number; memory_bytes: number };
    after: { stored_bytes: number; memory_bytes: number };
  };
  undone?: { models: { name: string; restored: number; not_kept: number }[]; whole_again?: string[] };
  exact_only?: { models: string[]; marked: boolean };
  serving: { shared_bytes: number };
}

const PROMPT = "clause : ana signed the warranty =>";
let folder = "";
let answer = "";

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  await runJson(folder, "split", ...["base", "legal", "hr"].map((name) => `fixtures/desk/optimum/${name}`));
  answer = await generate();
});
afterAll(() => removeWorkplace(folder));

const dedupe = async (...more: string[]) => await runJson<Deduped>(folder, "dedupe", ...more);
const generate = async () =>
  (await runJson<{ text: string }>(folder, "generate", "legal", "--prompt", PROMPT, "--max-tokens", "8")).text;
const isSound = async () => expect((await runJson<{ problems: unknown[] }>(folder, "check")).problems).toEqual([]);

describe("the value of dedupe --json", () => {
  it("has the keys that docs/dedupe.md lists, and no others", async () => {
    const [, section = ""] = readFileSync(join(ROOT, "docs/dedupe.md"), "utf8").split("## What `--json` has");
    const rows = [...section.split("\n## ")[0]!.matchAll(/^\| (`.+?) \| (.+) \|$/gm)];
    const named = (text: string) => [...text.matchAll(/`(\w+)`/g)].map(([, key]) => key!);
    const documented = new Map(
      rows.flatMap(([, keys, what]) => named(keys!).map((key) => [key, named(what!)] as const)),
    );
    const value = await dedupe("--fail-under", "1");
    const notHere = ["equivalent", "applied", "undone", "exact_only"];
    expect(Object.keys(value).toSorted()).toEqual(
      [...documented.keys()].filter((key) => !notHere.includes(key)).toSorted(),
    );
    for (const [key, inner] of Object.entries(value))
      for (const name of keysWithin(inner)) expect(documented.get(key), `${key}: ${name}`).toContain(name);
  });
});

/** Of objects at any depth; what an adapter or a merge holds is described elsewhere. */
function keysWithin(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysWithin);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "adapter" || key === "replaces" ? [key] : [key, ...keysWithin(inner)],
  );
}

describe("dedupe --apply", () => {
  it("keeps tensors as residuals: less disk, the same answers", async () => {
    const { applied, ...report } = await dedupe("--apply");
    expect(applied).toMatchObject({ lowrank: { blocks: 0 }, models: ["hr", "legal"] });
    expect(applied!.residual.tensors).toBeGreaterThan(50);
    expect(applied!.after.stored_bytes).toBeLessThan(applied!.before.stored_bytes);
    expect(applied!.after.memory_bytes).toBe(applied!.before.memory_bytes);
    expect(report.stored_bytes).toBe(applied!.after.stored_bytes);
    const { kept_bytes } = await runJson<{ kept_bytes: number }>(folder, "gc", "--grace", "0");
    expect(kept_bytes).toBe(report.stored_bytes);
    await isSound();
    expect(await generate()).toBe(answer);
  });

  it("keeps a merged LoRA as factors where low rank is named: less memory, the same answers, and shows the evidence", async () => {
    const { applied, serving } = await dedupe("--apply", "--tiers", "lowrank");
    expect(applied).toMatchObject({ lowrank: { blocks: 12 }, models: ["legal"], originals: "kept" });
    expect(applied!.after.memory_bytes).toBeLessThan(applied!.before.memory_bytes);
    expect(serving.shared_bytes).toBe(applied!.after.memory_bytes);
    expect(await generate()).toBe(answer);
    expect((await run(folder, "show", "legal", "--blocks")).stdout).toMatch(/mlp 3 .*low rank .*kept .*rank 8/);
    expect(await run(folder, "verify", "legal", "--against", "fixtures/desk/optimum/legal")).toMatchObject({ code: 0 });
    await isSound();
  });

  it("judges the state after: keeping originals never makes the ratio better", async () => {
    const { code, stdout } = await run(folder, "--json", "dedupe", "--apply", "--fail-under", "1.5");
    const { gate, ratio } = JSON.parse(stdout) as { gate: object; ratio: number };
    expect({ code, gate }).toEqual({ code: 3, gate: { passed: false, fail_under: 1.5 } });
    expect(ratio).toBeLessThan(1.5);
  });

  it("goes back to the last byte", async () => {
    expect((await dedupe("--undo")).undone!.models).toEqual([{ name: "legal", restored: 12, not_kept: 0 }]);
    expect((await dedupe("--undo", "--tiers", "residual")).undone!.whole_again).toEqual(["hr", "legal"]);
    await run(folder, "gc", "--grace", "0");
    await isSound();
    expect(await generate()).toBe(answer);
  });

  it("leaves a model alone that is exact only", async () => {
    expect((await dedupe("legal", "--exact-only")).exact_only).toEqual({ models: ["legal"], marked: true });
    expect((await dedupe("--apply", "--tiers", "lowrank")).applied).toMatchObject({
      models: [],
      exact_only: ["legal"],
    });
    expect((await dedupe("legal", "--no-exact-only")).exact_only).toEqual({ models: ["legal"], marked: false });
  });

  it("refuses what contradicts itself", async () => {
    expect(await runError(folder, "dedupe", "--apply", "--undo")).toMatchObject({ code: "usage" });
    for (const flag of ["--exact-only", "--no-exact-only"])
      expect(await runError(folder, "dedupe", flag)).toMatchObject({
        code: "usage",
        message: `${flag} is for models that are named`,
      });
  });
});
