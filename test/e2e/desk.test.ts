import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DESK, DESK_MODELS, makeWorkplace, removeWorkplace, run, runError, runJson } from "./blockllm.ts";

interface SplitModel {
  name: string;
  digest: string;
  blocks: { kind: string; layer: number | null; digest: string; bytes: number; shared_with: string[] }[];
  bytes: number;
  unique_bytes: number;
  opaque: boolean;
  warnings: string[];
}

interface Sharing {
  models: number;
  blocks: number;
  logical_bytes: number;
  stored_bytes: number;
  ratio: number;
  tiers: { exact: { blocks: number; saved_bytes: number } };
  first_divergence: { a: string; b: string; layer: number | null; kind: string }[];
  serving: { shared_bytes: number; separate_bytes: number };
  gate?: { passed: boolean };
}

const LAYERS = 6;
const BLOCKS = 1 + 2 * LAYERS + 1;

let folder = "";
let split: SplitModel[] = [];

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  const paths = DESK_MODELS.map((name) => `fixtures/desk/optimum/${name}`);
  split = (await runJson<{ models: SplitModel[] }>(folder, "split", ...paths)).models;
});
afterAll(() => removeWorkplace(folder));

const byName = (name: string): SplitModel => split.find((model) => model.name === name)!;

const differing = (a: string, b: string) =>
  byName(a).blocks.filter((block, place) => block.digest !== byName(b).blocks[place]!.digest);

describe("split", () => {
  it("cuts every desk model into embedding, attention and MLP of each layer, and head", () => {
    expect(split.map(({ name }) => name)).toEqual(DESK_MODELS);
    for (const { blocks, opaque, digest } of split) {
      expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(opaque).toBe(false);
      expect(blocks).toHaveLength(BLOCKS);
      expect(blocks.map(({ kind }) => kind)).toEqual([
        "embedding",
        ...Array.from({ length: LAYERS }, () => ["attention", "mlp"]).flat(),
        "head",
      ]);
    }
  });

  it("finds what each fine-tune left alone", () => {
    expect(differing("mirror", "base")).toEqual([]);
    expect(differing("hr", "base").map(({ kind, layer }) => `${kind} ${layer}`)).toEqual([
      "attention 4",
      "mlp 4",
      "attention 5",
      "mlp 5",
    ]);
    expect(differing("sales", "base").map(({ kind }) => kind)).toEqual(["mlp", "head"]);
    expect(differing("support-v2", "support").map(({ kind, layer }) => `${kind} ${layer}`)).toEqual(["attention 5"]);
    expect(differing("research", "base")).toHaveLength(BLOCKS);
  });

  it("says with whom a block is shared", () => {
    const [embedding] = byName("sales").blocks;
    expect(embedding!.shared_with).toEqual(expect.arrayContaining(["base", "mirror", "hr"]));
    expect(embedding!.shared_with).not.toContain("research");
  });

  it("adds nothing for a copy, and nothing when it runs again", async () => {
    expect(byName("mirror")).toMatchObject({ unique_bytes: 0, digest: byName("base").digest });
    const before = await runJson<Sharing>(folder, "dedupe");
    await runJson(folder, "split", "fixtures/desk/optimum/support");
    expect(await runJson<Sharing>(folder, "dedupe")).toEqual(before);
  });

  it("makes a layer one block when asked", async () => {
    const other = makeWorkplace();
    const layers = await runJson<{ models: SplitModel[] }>(
      other,
      "split",
      "fixtures/desk/optimum/hr",
      "--granularity",
      "layer",
    );
    expect(layers.models[0]!.blocks).toHaveLength(1 + LAYERS + 1);
    expect((await runJson<{ passed: boolean }>(other, "verify", "hr")).passed).toBe(true);
  });

  it("keeps a name for whoever has it", async () => {
    const taken = await runError(folder, "split", "fixtures/desk/optimum/legal", "--name", "support");
    expect(taken).toMatchObject({ exit: 2, code: "name_taken" });
  });
});

describe("dedupe", () => {
  it("adds up", async () => {
    const sharing = await runJson<Sharing>(folder, "dedupe");
    expect(sharing.models).toBe(DESK_MODELS.length);
    expect(sharing.stored_bytes).toBeLessThan(sharing.logical_bytes);
    expect(sharing.ratio).toBeCloseTo(sharing.logical_bytes / sharing.stored_bytes, 6);
    expect(sharing.tiers.exact.saved_bytes).toBe(sharing.logical_bytes - sharing.stored_bytes);
  });

  it("is a gate", async () => {
    const met = await run(folder, "--json", "dedupe", "--fail-under", "1.1");
    expect(met.code).toBe(0);
    const missed = await run(folder, "--json", "dedupe", "--fail-under", "50");
    expect(missed.code).toBe(3);
    expect((JSON.parse(missed.stdout) as Sharing).gate).toMatchObject({ passed: false });
  });

  it("writes a page for people, and over nothing but such a page", async () => {
    const { gate, serving } = await runJson<Sharing>(
      folder,
      "dedupe",
      "--report",
      "sharing.html",
      "--fail-under",
      "1.1",
    );
    expect(gate).toMatchObject({ passed: true });
    expect(serving.shared_bytes).toBeLessThan(serving.separate_bytes / 1.5);
    const page = readFileSync(join(folder, "sharing.html"), "utf8");
    expect(page).toMatch(/^<!doctype html>/);
    for (const name of DESK_MODELS) expect(page).toContain(`<th scope="row">${name}</th>`);
    const again = await run(folder, "--quiet", "dedupe", "--report", "sharing.html", "--fail-under", "50");
    expect(again.code).toBe(3);
    expect(readFileSync(join(folder, "sharing.html"), "utf8")).toContain('class="failed"');

    writeFileSync(join(folder, "thesis.html"), "<p>do not touch</p>");
    expect(await runError(folder, "dedupe", "--report", "thesis.html")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "dedupe", "--report", ".")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "dedupe", "--report", "nowhere/x.html")).toMatchObject({
      exit: 1,
      code: "io_failed",
    });
    expect(readFileSync(join(folder, "thesis.html"), "utf8")).toBe("<p>do not touch</p>");
    expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("looks at some models alone", async () => {
    const sharing = await runJson<Sharing>(folder, "dedupe", "base", "hr");
    expect(sharing.models).toBe(2);
    expect(sharing.first_divergence).toMatchObject([{ layer: 4, kind: "attention" }]);
  });
});

describe("list and show", () => {
  it("know the models", async () => {
    const { models } = await runJson<{ models: { name: string }[] }>(folder, "list");
    expect(models.map(({ name }) => name)).toEqual(DESK_MODELS.toSorted());
    for (const name of ["base", "mirror"])
      expect(await runJson(folder, "show", name)).toMatchObject({ source: { folder: name, graph: "model.onnx" } });
    const shown = await runJson<{ name: string; blocks: unknown[] }>(folder, "show", "hr");
    expect(shown).toMatchObject({ name: "hr", family: "llama", layers: LAYERS, vocab_size: 512, opaque: false });
    expect(shown.blocks).toHaveLength(BLOCKS);
  });

  it("do not know others", async () => {
    expect(await runError(folder, "show", "nobody")).toMatchObject({ exit: 2, code: "model_not_found" });
  });
});

describe("verify", () => {
  it.each(["support", "research"])("finds the chain of %s equal to its original file", async (name) => {
    const verdict = await runJson<Record<string, unknown>>(
      folder,
      "verify",
      name,
      "--against",
      `fixtures/desk/optimum/${name}`,
    );
    expect(verdict).toMatchObject({ model: name, passed: true, greedy_equal: true, top1: 1 });
    expect(verdict["max_abs_logit_diff"]).toBeLessThan(1e-4);
    expect(verdict["blobs_checked"]).toBeGreaterThan(BLOCKS);
  });

  it("tells two models apart, with exit code 3", async () => {
    const { code, stdout } = await run(
      folder,
      "--json",
      "verify",
      "support",
      "--against",
      "fixtures/desk/optimum/legal",
    );
    expect({ code, passed: (JSON.parse(stdout) as { passed: boolean }).passed }).toEqual({ code: 3, passed: false });
  });
});

describe("export", () => {
  it("gives back a folder that is the model", async () => {
    await runJson(folder, "export", "finance", "given-back");
    expect(existsSync(join(folder, "given-back/tokenizer.json"))).toBe(true);
    const verdict = await runJson<{ passed: boolean }>(folder, "verify", "finance", "--against", "given-back");
    expect(verdict.passed).toBe(true);
    const other = makeWorkplace();
    const { models } = await runJson<{ models: SplitModel[] }>(
      other,
      "split",
      join(folder, "given-back"),
      "--name",
      "finance",
    );
    expect(models[0]!.blocks.map(({ digest }) => digest)).toEqual(byName("finance").blocks.map(({ digest }) => digest));
  });
});

describe("generate", () => {
  it.each(["support", "legal", "finance", "hr", "research"])("%s answers what it was taught", async (name) => {
    const [question] = JSON.parse(readFileSync(join(DESK, "eval", `${name}.json`), "utf8")) as {
      prompt: string;
      answer: string;
    }[];
    const answer = await runJson<{ text: string; finish_reason: string; usage: object }>(
      folder,
      "generate",
      name,
      "--prompt",
      question!.prompt,
      "--max-tokens",
      "14",
      "--stop",
      " .",
    );
    expect(`${answer.text.trim()} .`).toBe(question!.answer);
    expect(answer.finish_reason).toBe("stop");
  });

  it("streams text to people", async () => {
    const { code, stdout } = await run(
      folder,
      "--quiet",
      "generate",
      "hr",
      "--prompt",
      "owner : who holds the printer =>",
      "--max-tokens",
      "4",
    );
    expect(code).toBe(0);
    expect(stdout.trim().split(" ").length).toBeGreaterThan(1);
  });

  it("takes token ids, gives logprobs, and repeats itself with a seed", async () => {
    const command = [
      "generate",
      "hr",
      "--tokens",
      "1,471,263,466",
      "--max-tokens",
      "5",
      "--temperature",
      "1",
      "--seed",
      "7",
      "--logprobs",
      "2",
    ];
    const first = await runJson<{ tokens: number[]; logprobs: { top: unknown[] }[] }>(folder, ...command);
    const second = await runJson<{ tokens: number[] }>(folder, ...command);
    expect(second.tokens).toEqual(first.tokens);
    expect(first.tokens.length).toBeGreaterThan(0);
    expect(first.logprobs).toHaveLength(first.tokens.length);
    expect(first.logprobs[0]!.top).toHaveLength(2);
  });

  it("refuses what does not fit", async () => {
    const tooMany = await runError(folder, "generate", "hr", "--prompt", "owner", "--max-tokens", "4000");
    expect(tooMany).toMatchObject({ exit: 2, code: "context_length_exceeded" });
    expect(await runError(folder, "generate", "hr")).toMatchObject({ exit: 2, code: "usage" });
    expect(await runError(folder, "generate", "hr", "--tokens", "1,9999")).toMatchObject({
      exit: 2,
      code: "request_invalid",
    });
  });
});

describe("plan", () => {
  it("loads what is shared once", async () => {
    const plan = await runJson<{ bytes: number; bytes_per_model_deployment: number; memory: { tokens: number } }>(
      folder,
      "plan",
      "--memory",
      "1GB",
    );
    expect(plan.bytes).toBeLessThan(plan.bytes_per_model_deployment / 1.5);
    expect(plan.memory.tokens).toBeGreaterThan(1000);
    expect(await runError(folder, "plan", "--memory", "1kB")).toMatchObject({ exit: 2, code: "memory_exceeded" });
  });
});
