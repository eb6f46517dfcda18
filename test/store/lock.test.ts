import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { withLock } from "../../src/store/lock.ts";
import { temporaryFolder } from "./temporary-folder.ts";

describe("withLock", () => {
  it("runs one at a time, and leaves no file", async () => {
    const folder = await temporaryFolder();
    let inside = 0;
    let most = 0;
    const work = async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setTimeout(resolve, 2));
      inside--;
    };
    await Promise.all(Array.from({ length: 8 }, () => withLock(join(folder, "lock"), work)));
    expect(most).toBe(1);
    expect(await readdir(folder)).toEqual([]);
  });

  it("is free again after a failure", async () => {
    const path = join(await temporaryFolder(), "lock");
    await expect(withLock(path, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await withLock(path, async () => "yes")).toBe("yes");
  });

  it("names the holder when it waits in vain", async () => {
    const path = join(await temporaryFolder(), "lock");
    const waiting = withLock(path, () => withLock(path, async () => "twice", { waitMs: 30 }));
    await expect(waiting).rejects.toMatchObject({
      code: "repository_locked",
      message: expect.stringContaining(`process ${process.pid} on ${hostname()}`),
      hint: expect.stringContaining(path),
    });
  });

  it("takes over from a process that died with it, one of many takers at a time", async () => {
    const path = join(await temporaryFolder(), "lock");
    const child = spawn(process.execPath, ["-e", ""]);
    await once(child, "exit");
    await writeFile(path, JSON.stringify({ pid: child.pid, host: hostname(), since: Date.now(), token: "dead" }));
    let inside = 0;
    const takers = Array.from({ length: 8 }, () =>
      withLock(path, async () => {
        expect(++inside).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 2));
        inside--;
      }),
    );
    await Promise.all(takers);
  });

  it("takes over what a former process of its own number, a former boot or a power cut left", async () => {
    const path = join(await temporaryFolder(), "lock");
    const holder = { pid: process.pid, host: hostname(), since: Date.now(), token: "a former life" };
    for (const content of [JSON.stringify(holder), JSON.stringify({ ...holder, pid: 1, since: 1 }), ""]) {
      await writeFile(path, content);
      expect(await withLock(path, async () => "mine", { waitMs: 1000 })).toBe("mine");
    }
  });

  it("waits for a living process and for another machine's", async () => {
    const path = join(await temporaryFolder(), "lock");
    for (const holder of [
      { pid: process.ppid, host: hostname(), since: Date.now(), token: "alive" },
      { pid: 999_999_999, host: "elsewhere", since: 1, token: "elsewhere" },
    ]) {
      await writeFile(path, JSON.stringify(holder));
      await expect(withLock(path, async () => "mine", { waitMs: 20 })).rejects.toMatchObject({
        code: "repository_locked",
      });
      expect(JSON.parse(await readFile(path, "utf8"))).toEqual(holder);
    }
  });

  it("stops waiting when told to", async () => {
    const path = join(await temporaryFolder(), "lock");
    const abort = new AbortController();
    const waiting = withLock(path, () => withLock(path, async () => "twice", { signal: abort.signal }));
    setTimeout(() => abort.abort(), 10);
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
  });
});
