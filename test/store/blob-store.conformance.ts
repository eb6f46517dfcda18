import { randomBytes } from "node:crypto";

import { describe, expect, it } from "vitest";

import { digestBytes } from "../../src/fingerprint/digest.ts";
import type { BlobSource, BlobStore } from "../../src/store/blob-store.ts";

const TYPE = "application/octet-stream";
const ABSENT = digestBytes(Buffer.from("never stored"));

/** What every store promises. A new store starts by passing this. */
export function describeBlobStore(name: string, newStore: () => Promise<BlobStore>): void {
  describe(`${name} keeps what BlobStore promises`, () => {
    it("gives back what was put, under the digest of its bytes", async () => {
      const store = await newStore();
      const bytes = randomBytes(1000);
      const descriptor = await store.put(bytes, TYPE);
      expect(descriptor).toEqual({ mediaType: TYPE, digest: digestBytes(bytes), size: 1000 });
      expect(Buffer.from(await store.read(descriptor.digest))).toEqual(bytes);
      expect(await store.has(descriptor.digest)).toBe(true);
      expect(await store.size(descriptor.digest)).toBe(1000);
    });

    it("keeps the empty blob", async () => {
      const store = await newStore();
      const { digest } = await store.put(new Uint8Array(0), TYPE);
      expect((await store.read(digest)).byteLength).toBe(0);
      expect((await collect(store.stream(digest))).length).toBe(0);
    });

    it("says blob_missing for what is not there", async () => {
      const store = await newStore();
      expect(await store.has(ABSENT)).toBe(false);
      await expect(store.size(ABSENT)).rejects.toMatchObject({ code: "blob_missing" });
      await expect(store.read(ABSENT)).rejects.toMatchObject({ code: "blob_missing", hint: expect.any(String) });
      await expect(collect(store.stream(ABSENT))).rejects.toMatchObject({ code: "blob_missing" });
    });

    it("refuses to read a blob that is not of the size the reader expects", async () => {
      const store = await newStore();
      const { digest } = await store.put(randomBytes(100), TYPE);
      await expect(store.read(digest, 99)).rejects.toMatchObject({ code: "blob_corrupt" });
      expect((await store.read(digest, 100)).byteLength).toBe(100);
    });

    it("streams blobs of many chunks in and out", async () => {
      const store = await newStore();
      const chunks = Array.from({ length: 11 }, () => randomBytes(1_000_003));
      const descriptor = await store.putStream({ mediaType: TYPE, stream: () => chunks });
      expect(descriptor.digest).toBe(digestBytes(Buffer.concat(chunks)));
      expect(digestBytes(await collect(store.stream(descriptor.digest)))).toBe(descriptor.digest);
    });

    it("puts many in their order, twice the same ones once, and reports each", async () => {
      const store = await newStore();
      const contents = Array.from({ length: 40 }, (_, at) => Buffer.from(`blob ${at % 30}`));
      const seen: { reused: boolean; blobs: number; bytes: number }[] = [];
      const descriptors = await store.putMany(contents.map(sourceOf), {
        onProgress: (progress) => seen.push(progress),
      });
      expect(descriptors.map(({ digest }) => digest)).toEqual(contents.map((bytes) => digestBytes(bytes)));
      expect(await digests(store)).toEqual(new Set(descriptors.map(({ digest }) => digest)));
      expect(seen.map(({ blobs }) => blobs)).toEqual(contents.map((_, at) => at + 1));
      expect(seen.at(-1)?.bytes).toBe(Buffer.concat(contents).length);

      seen.length = 0;
      await store.putMany(contents.map(sourceOf), { onProgress: (progress) => seen.push(progress) });
      expect(seen.every(({ reused }) => reused)).toBe(true);
    });

    it("touches what is put again, as a collection must spare it", async () => {
      const store = await newStore();
      const { digest } = await store.put(Buffer.from("old"), TYPE);
      const before = await touchedAt(store, digest);
      await new Promise((resolve) => setTimeout(resolve, 20));
      await store.put(Buffer.from("old"), TYPE);
      expect(await touchedAt(store, digest)).toBeGreaterThan(before);
    });

    it("pulls sources only as fast as it stores them", async () => {
      const store = await newStore();
      let pulled = 0;
      let stored = 0;
      let most = 0;
      const sources = function* () {
        for (; pulled < 50; pulled++) {
          most = Math.max(most, pulled - stored);
          yield sourceOf(Buffer.from(`pulled ${pulled}`));
        }
      };
      await store.putMany(sources(), { concurrency: 3, onProgress: () => void stored++ });
      expect(stored).toBe(50);
      expect(most).toBeLessThanOrEqual(3);
    });

    it("leaves nothing of a source that throws, and says its error", async () => {
      const store = await newStore();
      await expect(store.putMany([{ mediaType: TYPE, stream: breakOff }])).rejects.toThrow("the disk came off");
      expect(await digests(store)).toEqual(new Set());
    });

    it("refuses a source that is not as long as it said", async () => {
      const store = await newStore();
      await expect(store.putStream({ ...sourceOf(Buffer.from("four")), size: 5 })).rejects.toMatchObject({
        code: "io_failed",
      });
      expect(await digests(store)).toEqual(new Set());
    });

    it("stops when told to", async () => {
      const store = await newStore();
      const abort = new AbortController();
      const endless = async function* () {
        for (let at = 0; ; at++) {
          if (at === 8) abort.abort(new Error("enough"));
          yield randomBytes(1 << 20);
        }
      };
      await expect(store.putStream({ mediaType: TYPE, stream: endless }, abort.signal)).rejects.toThrow("enough");
      expect(await digests(store)).toEqual(new Set());
    });

    it("removes", async () => {
      const store = await newStore();
      const { digest } = await store.put(Buffer.from("gone soon"), TYPE);
      expect(await store.remove(digest)).toBe(true);
      expect(await store.remove(digest)).toBe(false);
      expect(await store.has(digest)).toBe(false);
    });

    it("gives bytes that the reader may change", async () => {
      const store = await newStore();
      const { digest } = await store.put(Buffer.from("mine"), TYPE);
      (await store.read(digest)).fill(0);
      expect(Buffer.from(await store.read(digest)).toString()).toBe("mine");
    });
  });
}

async function* breakOff() {
  yield randomBytes(5 << 20);
  throw new Error("the disk came off");
}

function sourceOf(bytes: Uint8Array): BlobSource {
  return { mediaType: TYPE, stream: () => [bytes] };
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

async function digests(store: BlobStore): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const { digest } of store.list()) found.add(digest);
  return found;
}

async function touchedAt(store: BlobStore, digest: string): Promise<number> {
  for await (const blob of store.list()) if (blob.digest === digest) return blob.touchedAt;
  throw new Error("not listed");
}
