import { readdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { finish, makeWorkplace, run, runJson, start } from "./blockllm.ts";

interface Check {
  ok: boolean;
  problems: unknown[];
}

const SOME = ["base", "hr", "sales"].map((name) => `fixtures/desk/optimum/${name}`);

it("takes two splits into one repository at once", async () => {
  const folder = makeWorkplace();
  const others = ["base", "legal", "sales", "support"].map((name) => `fixtures/desk/optimum/${name}`);
  const finished = await Promise.all([SOME, others].map((paths) => run(folder, "--quiet", "split", ...paths)));
  expect(finished.map(({ code, stderr }) => ({ code, stderr }))).toEqual([
    { code: 0, stderr: "" },
    { code: 0, stderr: "" },
  ]);
  const { models } = await runJson<{ models: { name: string }[] }>(folder, "list");
  expect(models.map(({ name }) => name)).toEqual(["base", "hr", "legal", "sales", "support"]);
  expect((await runJson<Check>(folder, "check")).ok).toBe(true);
});

it.each(["SIGINT", "SIGTERM"] as const)("is sound after %s in the middle of a split", async (signal) => {
  const folder = makeWorkplace();
  const child = start(folder, ["split", ...SOME]);
  const ended = finish(child);
  await somethingIsWritten(join(folder, "blocks/blobs/sha256"));
  child.kill(signal);
  const { code, stderr } = await ended;
  expect(code, stderr).toBe(130);
  expect(stderr).toMatch(/^error interrupted: stopped by SIG/m);
  expect((await runJson<Check>(folder, "check")).ok).toBe(true);
  await runJson(folder, "split", ...SOME);
  expect((await runJson<Check>(folder, "check")).ok).toBe(true);
});

it("is sound after it was killed in the middle of a split", async () => {
  const folder = makeWorkplace();
  const child = start(folder, ["split", ...SOME]);
  const ended = finish(child);
  await somethingIsWritten(join(folder, "blocks/blobs/sha256"));
  child.kill("SIGKILL");
  await ended;
  expect((await runJson<Check>(folder, "check")).ok).toBe(true);
});

it("notices damage", async () => {
  const folder = makeWorkplace();
  await runJson(folder, "split", "fixtures/desk/optimum/hr");
  const { blocks } = await runJson<{ blocks: { digest: string }[] }>(folder, "show", "hr");
  truncateSync(join(folder, "blocks/blobs/sha256", blocks[3]!.digest.replace("sha256:", "")), 10);
  const { code, stdout } = await run(folder, "--json", "check");
  expect(code).toBe(1);
  expect((JSON.parse(stdout) as Check).problems).not.toEqual([]);
});

it("gives room back after rm and gc, and keeps what others use", async () => {
  const folder = makeWorkplace();
  await runJson(folder, "split", "fixtures/desk/optimum/base", "fixtures/desk/optimum/research");
  const before = readdirSync(join(folder, "blocks/blobs/sha256")).length;
  await runJson(folder, "rm", "research");
  await runJson(folder, "gc", "--grace", "0");
  expect(readdirSync(join(folder, "blocks/blobs/sha256")).length).toBeLessThan(before);
  expect((await runJson<Check>(folder, "check")).ok).toBe(true);
  const verdict = await runJson<{ passed: boolean }>(folder, "verify", "base");
  expect(verdict.passed).toBe(true);
});

async function somethingIsWritten(folder: string): Promise<void> {
  for (;;) {
    try {
      if (readdirSync(folder).length > 3) return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    await sleep(5);
  }
}
