import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/program.ts";
import { makeWorkplace, removeWorkplace, ROOT } from "./blockllm.ts";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
/** Blocks after a `run` mark, in order; later ones find what earlier ones left. */
const scripts = [...readme.matchAll(/<!-- run -->\n```sh\n([\s\S]*?)```/g)].map((match) => match[1]!);

let folder = "";
let port = 0;

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  mkdirSync(join(folder, "path"));
  symlinkSync(join(ROOT, "bin/blockllm.js"), join(folder, "path/blockllm"));
  port = await freePort();
});
afterAll(() => removeWorkplace(folder));

describe("the README", () => {
  it("has commands to run", () => {
    expect(scripts.length).toBeGreaterThanOrEqual(2);
  });

  it.each(scripts.map((script) => [script.split("\n")[0]!, script]))("runs: %s …", (_first, script) => {
    const { status, stdout, stderr } = spawnSync("bash", ["-e", "-c", script.replaceAll("8080", String(port))], {
      cwd: folder,
      env: { ...process.env, PATH: `${folder}/path:${process.env["PATH"]}`, CI: "true", BLOCKLLM_REPO: "" },
      timeout: 100_000,
    });
    expect(
      { status, errors: String(stderr).match(/^(error|Warning|\s+at ).*/gm) },
      `${String(stdout)}\n${String(stderr)}`,
    ).toEqual({
      status: 0,
      errors: null,
    });
    expect(String(stdout)).not.toMatch(/"error"/);
  });

  it("shows what dedupe really prints", () => {
    const [, shown = ""] = /<!-- shown -->\n```\n([\s\S]*?)```/.exec(readme) ?? [];
    const split = /^\$ blockllm (split .*)$/m.exec(shown)![1]!;
    const { status, stdout } = spawnSync("bash", ["-e", "-c", `blockllm ${split} && blockllm dedupe`], {
      cwd: folder,
      env: { ...process.env, PATH: `${folder}/path:${process.env["PATH"]}`, BLOCKLLM_REPO: "shown" },
    });
    expect(status).toBe(0);
    const lines = shown.split("\n").filter((line) => line !== "" && !/^(\$|listening)/.test(line));
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) expect(String(stdout)).toContain(`${line}\n`);
  });

  it("names every command, and no command that is not there", () => {
    const [, table = ""] = /## Commands\n([\s\S]*?)\n## /.exec(readme) ?? [];
    const cells = [...table.matchAll(/^\| (`.*?`) \|/gm)].map((match) => match[1]!);
    const named = cells.flatMap((cell) => [...cell.matchAll(/`([a-z]+)/g)].map((match) => match[1]!));
    expect(named.toSorted()).toEqual(COMMANDS.map(({ usage }) => usage.split(" ")[0]!).toSorted());
  });

  it("names only options that exist", () => {
    const known = new Set(COMMANDS.flatMap(({ options }) => options.map(({ flags }) => flags.split(/[ ,]/)[0]!)));
    const commandLines = [...readme.matchAll(/^blockllm .*$/gm)].flatMap(
      (match) => match[0].match(/ --[a-z-]+/g) ?? [],
    );
    expect(commandLines.map((option) => option.trim()).filter((option) => !known.has(option))).toEqual([]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((ready) => server.once("listening", ready));
  const { port: found } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return found;
}
