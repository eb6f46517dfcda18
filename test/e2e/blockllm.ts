import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, onTestFinished } from "vitest";

export const ROOT = resolve(import.meta.dirname, "../..");
export const DESK = join(ROOT, "fixtures/desk");
export const DESK_MODELS = ["base", "mirror", "support", "legal", "finance", "hr", "sales", "research", "support-v2"];

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A folder of its own, with `fixtures` in it as in a clone. Removed when the test ends, or by `remove` outside one. */
export function makeWorkplace({ keep = false } = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "blockllm-e2e-"));
  symlinkSync(join(ROOT, "fixtures"), join(folder, "fixtures"));
  if (!keep) onTestFinished(() => removeWorkplace(folder));
  return folder;
}

export function removeWorkplace(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** The built command line as a process of its own. */
export function start(
  folder: string,
  command: string[],
  variables: Record<string, string> = {},
): ChildProcessWithoutNullStreams {
  const env = { ...cleanEnvironment(), ...variables };
  return spawn(process.execPath, [join(ROOT, "bin/blockllm.js"), ...command], { cwd: folder, env });
}

export async function run(folder: string, ...command: string[]): Promise<Finished> {
  return await finish(start(folder, command));
}

/** The value of a command that must succeed without a word on stderr. */
export async function runJson<Value>(folder: string, ...command: string[]): Promise<Value> {
  const { code, stdout, stderr } = await run(folder, "--json", "--quiet", ...command);
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Value;
}

/** The error of a command that must fail, as `--json` gives it; stderr must hold its one line and no stack. */
export async function runError(
  folder: string,
  ...command: string[]
): Promise<{ exit: number | null; code: string; message: string }> {
  const { code: exit, stdout, stderr } = await run(folder, "--json", "--quiet", ...command);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  expect(stderr.split("\n")[0]).toBe(`error ${error.code}: ${error.message}`);
  expect(stderr).not.toMatch(/^\s+at /m);
  return { exit, ...error };
}

export async function finish(child: ChildProcessWithoutNullStreams): Promise<Finished> {
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (piece) => (stdout += String(piece)));
  child.stderr.on("data", (piece) => (stderr += String(piece)));
  const code = await new Promise<number | null>((done, fail) => {
    child.once("error", fail);
    child.once("close", (status) => done(status));
  });
  return { code, stdout, stderr };
}

/** A server on a free port, once it says where. */
export async function startServer(folder: string, ...options: string[]) {
  return await startServerWith({}, folder, ...options);
}

export async function startServerWith(variables: Record<string, string>, folder: string, ...options: string[]) {
  const child = start(folder, ["--json", "--quiet", "serve", "--port", "0", ...options], variables);
  const ended = finish(child);
  const url = await new Promise<string>((ready, fail) => {
    let printed = "";
    child.stdout.on("data", (piece) => {
      printed += String(piece);
      if (printed.endsWith("\n}\n")) ready((JSON.parse(printed) as { url: string }).url);
    });
    void ended.then(({ stderr }) => fail(new Error(`the server ended before it was ready: ${stderr}`)));
  });
  const stop = async (): Promise<Finished> => {
    child.kill("SIGTERM");
    return await ended;
  };
  return { url, stop, child };
}

/** What the tests' own environment must not decide. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const {
    BLOCKLLM_REPO: _repository,
    BLOCKLLM_DEBUG: _debug,
    NODE_OPTIONS: _options,
    ORT_DISABLE_TELEMETRY: _telemetry,
    ...rest
  } = process.env;
  return { ...rest, PATH: `${ROOT}/node_modules/.bin:${rest["PATH"]}` };
}
