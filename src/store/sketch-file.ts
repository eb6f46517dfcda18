import { randomUUID } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Digest } from "../blocks/block.ts";
import { digestBytes, digestFromHex, digestHex } from "../fingerprint/digest.ts";
import { SKETCH_WORDS } from "../fingerprint/sketch.ts";
import { makeFolder } from "../support/make-folder.ts";
import type { BlobFolder } from "./blob-folder.ts";
import { errorCode } from "./storage-error.ts";

/** Changes with the way sketches are made: those of another version are made anew. */
const MAGIC = Buffer.from("blkskt01");
const DIGEST_BYTES = 32;
const RECORD_BYTES = DIGEST_BYTES + SKETCH_WORDS * 4;

/** Sketches by block digest. */
export type Sketches = Map<Digest, Uint32Array>;

/** What was kept; empty when the file is not there or not whole: it is derived, so it is made again and not repaired. */
export async function readSketches(folder: BlobFolder): Promise<Sketches> {
  const sketches: Sketches = new Map();
  const bytes = await readIfThere(pathOf(folder));
  const end = bytes.length - DIGEST_BYTES;
  if (end < MAGIC.length || (end - MAGIC.length) % RECORD_BYTES !== 0) return sketches;
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return sketches;
  if (digestHex(digestBytes(bytes.subarray(0, end))) !== bytes.toString("hex", end)) return sketches;
  for (let at = MAGIC.length; at < end; at += RECORD_BYTES) {
    const sketch = new Uint32Array(SKETCH_WORDS);
    for (let word = 0; word < SKETCH_WORDS; word++) sketch[word] = bytes.readUInt32LE(at + DIGEST_BYTES + 4 * word);
    sketches.set(digestFromHex(bytes.toString("hex", at, at + DIGEST_BYTES)), sketch);
  }
  return sketches;
}

/** Keeps sketches beside those there are. */
export async function addSketches(folder: BlobFolder, more: Sketches): Promise<void> {
  const kept = await readSketches(folder);
  const missing = [...more].filter(([digest]) => !kept.has(digest));
  if (missing.length > 0) await writeSketches(folder, new Map([...kept, ...missing]));
}

/**
 * Replaces the file at once. Of two processes that write at the same time the later one wins, and what it did not know
 * is computed again when it is needed. A repository that may only be read keeps nothing.
 */
export async function writeSketches(folder: BlobFolder, sketches: Sketches): Promise<void> {
  const body = Buffer.alloc(MAGIC.length + sketches.size * RECORD_BYTES);
  MAGIC.copy(body);
  let at = MAGIC.length;
  for (const [digest, sketch] of sketches) {
    body.write(digestHex(digest), at, "hex");
    for (const [word, value] of sketch.entries()) body.writeUInt32LE(value, at + DIGEST_BYTES + 4 * word);
    at += RECORD_BYTES;
  }
  const check = Buffer.from(digestHex(digestBytes(body)), "hex");
  const incoming = join(cacheOf(folder), `incoming-${process.pid}-${randomUUID()}`);
  try {
    await makeFolder(cacheOf(folder));
    await writeFile(incoming, Buffer.concat([body, check]));
    await rename(incoming, pathOf(folder));
  } catch (error) {
    if (["EACCES", "EPERM", "EROFS"].includes(errorCode(error) ?? "")) return;
    await rm(incoming, { force: true });
    throw error;
  }
}

function cacheOf(folder: BlobFolder): string {
  return join(folder.root, "cache");
}

function pathOf(folder: BlobFolder): string {
  return join(cacheOf(folder), "sketches");
}

async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
}
