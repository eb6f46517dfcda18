import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { makeFolder } from "../../src/support/make-folder.ts";
import { temporaryFolder } from "../store/temporary-folder.ts";

it("makes a folder and those above it, also when several ask at once", async () => {
  const path = join(await temporaryFolder(), "a", "b", "c");
  await Promise.all([makeFolder(path), makeFolder(path), makeFolder(join(path, "d"))]);
  await makeFolder(path);
  expect(statSync(join(path, "d")).isDirectory()).toBe(true);
});

it("fails where a file is in the way", async () => {
  const file = join(await temporaryFolder(), "file");
  writeFileSync(file, "");
  await expect(makeFolder(file)).rejects.toMatchObject({ code: "EEXIST" });
  await expect(makeFolder(join(file, "inside"))).rejects.toMatchObject({ code: "ENOTDIR" });
});

it("fails where a folder takes none inside", async ({ skip }) => {
  skip(!existsSync("/proc/self"), "only Linux has such a folder everywhere");
  await expect(makeFolder("/proc/blockllm/blocks")).rejects.toMatchObject({ code: "ENOENT" });
});
