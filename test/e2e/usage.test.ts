import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/program.ts";
import { makeWorkplace, run, runError, runJson } from "./blockllm.ts";

describe("help", () => {
  it("lists every command and the exit codes", async () => {
    const { code, stdout, stderr } = await run(makeWorkplace(), "--help");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const { usage } of COMMANDS) expect(stdout).toContain(`  ${usage.split(" ")[0]} `);
    expect(stdout).toContain("Exit codes: 0 done");
  });

  it("is what a bare call prints", async () => {
    const folder = makeWorkplace();
    expect(await run(folder)).toEqual(await run(folder, "--help"));
  });

  it.each(COMMANDS.map(({ usage, examples }) => [usage.split(/ [<[]/)[0]!, examples] as const))(
    "shows an example of %s",
    async (name, examples) => {
      const { code, stdout, stderr } = await run(makeWorkplace(), ...name.split(" "), "--help");
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      for (const example of examples) expect(stdout).toContain(`  ${example}\n`);
    },
  );
});

describe("wrong usage", () => {
  it.each([
    ["an unknown command", ["frobnicate"], "usage"],
    ["an unknown option", ["list", "--frobnicate"], "usage"],
    ["a missing argument", ["show"], "usage"],
    ["half a command", ["tenant"], "usage"],
    ["an argument too many", ["list", "support"], "usage"],
    ["a size that is none", ["plan", "--memory", "lots"], "usage"],
    ["models without a name", ["serve", "--models", ""], "usage"],
    ["a tenant with a name that none can have", ["tenant", "add", "a b"], "usage"],
    ["a folder in place of tenants", ["tenant", "add", "acme", "--tenants", "."], "usage"],
    ["tenants in a folder that is not there", ["tenant", "add", "acme", "--tenants", "nowhere/t.json"], "usage"],
    ["a folder in place of a scenario", ["bench", "--scenario", "."], "scenario_invalid"],
    ["a repository without a name", ["--repo", "", "list"], "usage"],
    ["keys that are not there", ["bench", "--url", "http://127.0.0.1:1", "--keys", "nowhere"], "usage"],
    ["a repository that is not there", ["list"], "repository_not_found"],
  ])("%s exits with 2", async (_what, command, code) => {
    expect(await runError(makeWorkplace(), ...command)).toMatchObject({ exit: 2, code });
  });

  it("says the same to people, with a hint, and nothing on stdout", async () => {
    const { code, stdout, stderr } = await run(makeWorkplace(), "frobnicate");
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^error usage: unknown command 'frobnicate'\n {2}blockllm --help/);
  });

  it("does not take a folder of other things for a repository", async () => {
    const folder = makeWorkplace();
    mkdirSync(join(folder, "blocks"));
    writeFileSync(join(folder, "blocks", "thesis.txt"), "do not touch");
    expect(await runError(folder, "list")).toMatchObject({ exit: 1, code: "repository_invalid" });
  });
});

it("doctor names runtime, providers and what is missing", async () => {
  const doctor = await runJson<Record<string, unknown>>(makeWorkplace(), "doctor");
  expect(doctor).toMatchObject({
    ok: true,
    node: process.versions.node,
    onnxruntime: expect.stringMatching(/^1\.30/),
    execution_providers: expect.arrayContaining([{ name: "cpu", installed: true }]),
    cores: expect.any(Number),
    memory_bytes: expect.any(Number),
    findings: expect.any(Array),
  });
});
