import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makeWorkplace, ROOT } from "./blockllm.ts";

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
