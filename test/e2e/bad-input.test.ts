import { cpSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DESK, makeWorkplace, run, runError, runJson } from "./blockllm.ts";

describe("split refuses", () => {
  it.each([
    ["an empty file", "empty.onnx", "model_invalid"],
    ["a truncated file", "truncated.onnx", "model_invalid"],
    ["a text file", "text.onnx", "model_invalid"],
    ["huge dimensions", "huge-dims.onnx", "model_too_large"],
    ["data that is missing", "external-missing.onnx", "external_data_missing"],
    ["data that is too short", "external-short.onnx", "external_data_short"],
    ["data outside the folder", "external-parent.onnx", "external_data_escapes"],
  ])("%s", async (_what, file, code) => {
    const error = await runError(makeWorkplace(), "split", `fixtures/hostile/${file}`);
    expect(error).toMatchObject({ exit: 2, code });
    expect(error.message).toContain(file);
  });

  it("a path that is not there, and a folder without a model", async () => {
    const folder = makeWorkplace();
    mkdirSync(join(folder, "empty"));
    expect(await runError(folder, "split", "nowhere")).toMatchObject({ exit: 2 });
    expect(await runError(folder, "split", "empty")).toMatchObject({ exit: 2 });
  });

  it("real external data that was cut short, and goes on with the other models", async () => {
    const folder = makeWorkplace();
    cpSync(join(DESK, "genai/base"), join(folder, "cut"), { recursive: true });
    truncateSync(join(folder, "cut/model.onnx.data"), 100_000);
    const { code, stdout, stderr } = await run(folder, "--json", "split", "cut", "fixtures/desk/genai/support");
    expect(code).toBe(2);
    expect(stderr).toContain("error external_data_short: 1 of 2 models refused: cut");
    const split = JSON.parse(stdout) as { models: { name: string }[]; refused: { path: string; code: string }[] };
    expect(split.models.map(({ name }) => name)).toEqual(["support"]);
    expect(split.refused).toMatchObject([{ path: "cut", code: "external_data_short" }]);
    const { models } = await runJson<{ models: { name: string }[] }>(folder, "list");
    expect(models.map(({ name }) => name)).toEqual(["support"]);
  });

  it("names that no registry would take, and one name for two models", async () => {
    const folder = makeWorkplace();
    const support = "fixtures/desk/optimum/support";
    expect(await runError(folder, "split", support, "--name", "a b")).toMatchObject({ exit: 2, code: "name_invalid" });
    expect(await runError(folder, "split", support, support, "--name", "x")).toMatchObject({ exit: 2, code: "usage" });
  });
});

describe("a model without a tokenizer", () => {
  it("goes in with a warning, takes token ids, and says what it lacks when it is asked with text", async () => {
    const folder = makeWorkplace();
    cpSync(join(DESK, "optimum/hr"), join(folder, "bare"), { recursive: true });
    rmSync(join(folder, "bare/tokenizer.json"));
    const { models } = await runJson<{ models: { warnings: string[] }[] }>(folder, "split", "bare");
    expect(models[0]!.warnings.join()).toMatch(/tokenizer/);
    const answer = await runJson<{ tokens: number[] }>(
      folder,
      "generate",
      "bare",
      "--tokens",
      "1,471,263,466",
      "--max-tokens",
      "3",
    );
    expect(answer.tokens.length).toBeGreaterThan(0);
    const asked = await runError(folder, "generate", "bare", "--prompt", "owner");
    expect(asked).toMatchObject({ exit: 2, code: "tokenizer_missing" });
  });
});

describe("files a user writes", () => {
  it.each([
    ["no JSON", "owner"],
    ["the wrong JSON", '{"role": "user"}'],
    ["an empty chat", "[]"],
  ])("--messages with %s is wrong usage", async (_what, content) => {
    const folder = makeWorkplace();
    await runJson(folder, "split", "fixtures/desk/optimum/hr");
    writeFileSync(join(folder, "chat.json"), content);
    expect(await runError(folder, "generate", "hr", "--messages", "chat.json")).toMatchObject({
      exit: 2,
      code: "usage",
    });
  });

  it("a file that is not there is named", async () => {
    const folder = makeWorkplace();
    await runJson(folder, "split", "fixtures/desk/optimum/hr");
    const error = await runError(folder, "generate", "hr", "--messages", "absent.json");
    expect(error).toMatchObject({ exit: 2, code: "usage" });
    expect(error.message).toContain("absent.json");
  });
});
