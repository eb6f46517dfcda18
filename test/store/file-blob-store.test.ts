import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { describe, expect, it, onTestFinished, vi } from "vitest";

import { digestBytes } from "../../src/fingerprint/digest.ts";
import { FileBlobStore } from "../../src/store/file-blob-store.ts";
import { describeBlobStore } from "./blob-store.conformance.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const TYPE = "application/octet-stream";
const LARGE = 9 << 20;

describeBlobStore("the file store", async () => new FileBlobStore(await temporaryFolder()));

describe("FileBlobStore", () => {
  it("writes read-only files named by their digest and leaves nothing else", async () => {
    const store = new FileBlobStore(await temporaryFolder());
    const { digest } = await store.put(randomBytes(100), TYPE);
    expect(store.path(digest).endsWith(`/blobs/sha256/${digest.slice(7)}`)).toBe(true);
    expect((await stat(store.path(digest))).mode & 0o777).toBe(0o444);
    expect(await readdir(store.folder.incoming)).toEqual([]);
  });

  it.each([
    ["one byte changed", (path: string) => overwrite(path, 500)],
    ["cut short", (path: string) => truncate(path, 100)],
    ["longer than it was", (path: string) => writeFile(path, "tail", { flag: "a" })],
  ])("finds a blob damaged (%s) when it is read, and repairs it when it is put again", async (_, damage) => {
    for (const size of [1000, LARGE]) {
      const store = new FileBlobStore(await temporaryFolder());
      const bytes = randomBytes(size);
      const { digest } = await store.put(bytes, TYPE);
      await chmod(store.path(digest), 0o644);
      await damage(store.path(digest));
      await expect(store.read(digest)).rejects.toMatchObject({ code: "blob_corrupt" });
      await expect(drain(store.stream(digest))).rejects.toMatchObject({ code: "blob_corrupt" });

      await store.put(bytes, TYPE);
      expect(Buffer.compare(await store.read(digest), bytes)).toBe(0);
    }
  });

  it("repairs the half-written file that a writer without care left under the final name", async () => {
    const store = new FileBlobStore(await temporaryFolder());
    const bytes = Buffer.from("the whole of it");
    const path = store.path(digestBytes(bytes));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, "the who");
    await store.put(bytes, TYPE);
    expect(await readFile(path, "utf8")).toBe("the whole of it");
  });

  it.each([1000, LARGE])("does not write %i bytes that are there already", async (size) => {
    const store = new FileBlobStore(await temporaryFolder());
    const bytes = randomBytes(size);
    const { digest } = await store.put(bytes, TYPE);
    const before = await stat(store.path(digest));
    const created = await watchCreatedFiles(store);
    await store.put(bytes, TYPE);
    expect((await stat(store.path(digest))).ino).toBe(before.ino);
    expect(await created()).toBe(false);
  });

  it("makes an old blob young again when it is put again", async () => {
    const store = new FileBlobStore(await temporaryFolder());
    const { digest } = await store.put(Buffer.from("old"), TYPE);
    await utimes(store.path(digest), 1, 1);
    await store.put(Buffer.from("old"), TYPE);
    expect((await stat(store.path(digest))).mtimeMs).toBeGreaterThan(Date.now() - 60_000);
  });

  it.each(["ENOSPC", "EDQUOT"])("says out_of_space with what was needed when the disk is full (%s)", async (code) => {
    const store = new FileBlobStore(await temporaryFolder());
    await failWritesWith(code, 3);
    const chunks = Array.from({ length: 9 }, () => randomBytes(1 << 20));
    await expect(store.putStream({ mediaType: TYPE, size: LARGE, stream: () => chunks })).rejects.toMatchObject({
      code: "out_of_space",
      message: expect.stringContaining(`${LARGE} bytes`),
      hint: expect.stringContaining("blockllm gc"),
    });
    vi.restoreAllMocks();
    expect(await readdir(store.folder.incoming)).toEqual([]);
    expect(await readdir(store.folder.blobs)).toEqual([]);
    await store.putStream({ mediaType: TYPE, stream: () => chunks });
  });

  it("says io_failed when a collection without grace takes the file away while it is written", async () => {
    const store = new FileBlobStore(await temporaryFolder());
    const source = async function* () {
      yield randomBytes(5 << 20);
      for (const name of await readdir(store.folder.incoming)) await rm(join(store.folder.incoming, name));
      yield randomBytes(5 << 20);
    };
    await expect(store.putStream({ mediaType: TYPE, stream: source })).rejects.toMatchObject({ code: "io_failed" });
  });

  it("does not list files that are no blobs", async () => {
    const store = new FileBlobStore(await temporaryFolder());
    const { digest } = await store.put(Buffer.from("a"), TYPE);
    await writeFile(join(store.folder.blobs, "README"), "not a blob");
    const listed = [];
    for await (const blob of store.list()) listed.push(blob.digest);
    expect(listed).toEqual([digest]);
  });
});

async function overwrite(path: string, at: number): Promise<void> {
  const handle = await open(path, "r+");
  await handle.write(Buffer.from([((await readFile(path))[at] ?? 0) ^ 1]), 0, 1, at);
  await handle.close();
}

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of chunks) void chunk;
}

/** Whether a file was created in `incoming`: its folder's time says so even after it is gone. */
async function watchCreatedFiles(store: FileBlobStore): Promise<() => Promise<boolean>> {
  await utimes(store.folder.incoming, 1, 1);
  return async () => (await stat(store.folder.incoming)).mtimeMs !== 1000;
}

/** The `after`-th write to any file and those after it fail as on a full disk. */
async function failWritesWith(code: string, after: number): Promise<void> {
  const handle = await open(process.execPath);
  const prototype = Object.getPrototypeOf(handle) as typeof handle;
  await handle.close();
  const original = Reflect.get(prototype, "write") as (...all: unknown[]) => Promise<unknown>;
  let writes = 0;
  vi.spyOn(prototype, "write").mockImplementation(function (this: unknown, ...all: unknown[]) {
    if (++writes > after) return Promise.reject(Object.assign(new Error(`${code}: write`), { code }));
    return original.apply(this, all);
  } as never);
  onTestFinished(() => void vi.restoreAllMocks());
}
