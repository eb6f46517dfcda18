import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { finish, makeWorkplace, ROOT, start } from "./blockllm.ts";

const version = (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version;

it("packs into something that runs, without sources, tests or fixtures", () => {
  const folder = makeWorkplace();
  execute("npm", ["pack", "--silent", "--pack-destination", folder], ROOT);
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  execute("tar", ["-xzf", archive], folder);
  const unpacked = join(folder, "package");
  expect(readdirSync(unpacked).toSorted()).toEqual(
    ["CHANGELOG.md", "LICENSE", "README.md", "bin", "dist", "package.json"].toSorted(),
  );
  symlinkSync(join(ROOT, "node_modules"), join(unpacked, "node_modules"));
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(unpacked, "bin/blockllm.js"), "--version"]);
  expect({ status, stdout: String(stdout), stderr: String(stderr) }).toEqual({
    status: 0,
    stdout: `${version}\n`,
    stderr: "",
  });
});

it("leaves nothing in the folder for temporary files, where the runtime's telemetry would", async () => {
  const folder = makeWorkplace();
  const temporary = join(folder, "temporary");
  mkdirSync(temporary);
  const play = async (...command: string[]): Promise<void> => {
    const { code, stderr } = await finish(start(folder, ["--quiet", ...command], { TMPDIR: temporary }));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  };
  await play("split", "fixtures/desk/optimum/hr");
  await play("verify", "hr");
  await play("generate", "hr", "--prompt", "owner", "--max-tokens", "2");
  expect(readdirSync(temporary)).toEqual([]);
});

it.skipIf(process.platform === "win32")("starts by its own name in memory that is given back", () => {
  const folder = makeWorkplace();
  symlinkSync(join(ROOT, "bin/blockllm.js"), join(folder, "blockllm"));
  const tell = "data:text/javascript,console.error(process.env.MALLOC_MMAP_THRESHOLD_)";
  const env = { PATH: process.env["PATH"], NODE_OPTIONS: `--import=${tell}` };
  const { status, stdout, stderr } = spawnSync(join(folder, "blockllm"), ["--version"], { env });
  expect({ status, stdout: String(stdout), stderr: String(stderr) }).toEqual({
    status: 0,
    stdout: `${version}\n`,
    stderr: `${1024 ** 2}\n`,
  });
});

it("says what to do when it is not built", () => {
  const folder = makeWorkplace();
  execute("cp", ["-r", join(ROOT, "bin"), join(ROOT, "package.json"), folder], ROOT);
  const { status, stderr } = spawnSync(process.execPath, [join(folder, "bin/blockllm.js"), "list"]);
  expect({ status, stderr: String(stderr) }).toEqual({
    status: 1,
    stderr: "blockllm is not built yet: run `npm run build` in its folder first\n",
  });
});

function execute(program: string, parameters: string[], cwd: string): void {
  const { status, stderr } = spawnSync(program, parameters, { cwd });
  expect(status, String(stderr)).toBe(0);
}
