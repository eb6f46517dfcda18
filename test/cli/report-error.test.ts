import { CommanderError } from "commander";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { reportError } from "../../src/cli/report-error.ts";
import { BlockllmError } from "../../src/support/errors.ts";

let stdout = "";
let stderr = "";

beforeEach(() => {
  stdout = "";
  stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => ((stdout += String(text)), true));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => ((stderr += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

it("says an expected error in two lines, without a stack", () => {
  const error = new BlockllmError("model_not_found", "there is no model x", { hint: "blockllm list" });
  expect(reportError(error, false)).toBe(2);
  expect({ stdout, stderr }).toEqual({
    stdout: "",
    stderr: "error model_not_found: there is no model x\n  blockllm list\n",
  });
});

it("gives --json its document on stdout as well", () => {
  reportError(new BlockllmError("out_of_space", "the disk is full"), true);
  expect(JSON.parse(stdout)).toEqual({ error: { code: "out_of_space", message: "the disk is full", hint: null } });
  expect(stderr).toBe("error out_of_space: the disk is full\n");
});

it("asks for a report of what nobody foresaw, with the stack and its causes", () => {
  const bug = new Error("undefined is not a function", { cause: new Error("deeper") });
  expect(reportError(bug, true)).toBe(1);
  expect(stderr).toMatch(/undefined is not a function\n\s+at [\s\S]*caused by: Error: deeper/);
  expect(stderr).toMatch(/Please report it/);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: "internal" } });
});

it.each([
  ["ENOSPC", "out_of_space"],
  ["EACCES", "io_failed"],
])("knows %s of the operating system as %s", (systemCode, code) => {
  const error = Object.assign(new Error("open failed"), { code: systemCode, syscall: "open", path: "/x" });
  expect(reportError(error, false)).toBe(1);
  expect(stderr).toContain(`error ${code}: open failed`);
});

it("turns commander's words into usage", () => {
  expect(reportError(new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'"), false)).toBe(2);
  expect(stderr).toContain("error usage: unknown option '--x'\n");
});

it("shows the stack of an expected error when BLOCKLLM_DEBUG asks for it", () => {
  vi.stubEnv("BLOCKLLM_DEBUG", "1");
  reportError(new BlockllmError("io_failed", "no", { cause: new Error("why") }), false);
  expect(stderr).toMatch(/^\s+at /m);
  expect(stderr).toContain("caused by: Error: why");
});
