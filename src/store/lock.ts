import { randomUUID } from "node:crypto";
import { link, readFile, rm, stat, unlink, writeFile } from "node:fs/promises";
import { hostname, uptime } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

import { BlockllmError } from "../support/errors.ts";
import { errorCode } from "./storage-error.ts";

const WAIT_MS = 30_000;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 100;

/** A holder that died while it took over a dead one's lock leaves its marker; nobody needs this long for two system calls. */
const MARKER_STALE_MS = 10_000;

interface Holder {
  pid: number;
  host: string;
  /** ms since 1970. */
  since: number;
  /** Tells two locks of one process apart. */
  token: string;
}

/** Tokens that this process holds now: our own pid in a lock without one of these is a former process that had it. */
const held = new Set<string>();

export interface LockOptions {
  waitMs?: number;
  signal?: AbortSignal;
}

/**
 * Runs `work` while no other process runs its own under the same `path`. Advisory, and for moments (index.json is
 * read and written again): a file created exclusively, taken over when its process is dead. Throws
 * `repository_locked`, naming the holder, after `waitMs`.
 */
export async function withLock<T>(path: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const mine: Holder = { pid: process.pid, host: hostname(), since: Date.now(), token: randomUUID() };
  held.add(mine.token);
  try {
    await acquire(path, mine, options);
    try {
      return await work();
    } finally {
      await rm(path, { force: true });
    }
  } finally {
    held.delete(mine.token);
  }
}

async function acquire(path: string, mine: Holder, options: LockOptions): Promise<void> {
  const deadline = Date.now() + (options.waitMs ?? WAIT_MS);
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    options.signal?.throwIfAborted();
    if (await create(path, mine)) return;
    const holder = await readHolder(path);
    if (holder === null) continue;
    if (isDead(holder) && (await breakLock(path, holder))) continue;
    if (Date.now() > deadline) throw locked(path, holder);
    // A random part, so that eight waiting processes do not come back at the same moment.
    await sleep(pause * (0.5 + Math.random()), undefined, options.signal ? { signal: options.signal } : {});
  }
}

/** The file appears with its content or not at all: a lock whose holder cannot be read could never be taken over. */
async function create(path: string, mine: Holder): Promise<boolean> {
  const draft = `${path}.${mine.token}`;
  await writeFile(draft, JSON.stringify(mine), { flag: "wx" });
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await unlink(draft);
  }
}

async function readHolder(path: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Holder;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    // Only a power cut leaves a lock without its content, and nobody has held it since.
    if (error instanceof SyntaxError) return { pid: 0, host: hostname(), since: 0, token: "unreadable" };
    throw error;
  }
}

/** Only a process of this machine can be known to be dead. */
function isDead(holder: Holder): boolean {
  if (holder.host !== hostname()) return false;
  if (holder.since < Date.now() - uptime() * 1000) return true;
  if (holder.pid === process.pid) return !held.has(holder.token);
  try {
    process.kill(holder.pid, 0);
    return false;
  } catch (error) {
    return errorCode(error) === "ESRCH";
  }
}

/**
 * Removes the lock of a dead process. Two may try: without the marker the slower one would remove the lock that the
 * faster one has just made. Whoever has the marker of this very holder looks again before it removes.
 */
async function breakLock(path: string, dead: Holder): Promise<boolean> {
  const marker = `${path}.breaking-${dead.token}`;
  try {
    await writeFile(marker, "", { flag: "wx" });
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    await removeOldMarker(marker);
    return false;
  }
  try {
    if ((await readHolder(path))?.token === dead.token) await unlink(path);
    return true;
  } finally {
    await rm(marker, { force: true });
  }
}

async function removeOldMarker(marker: string): Promise<void> {
  try {
    if ((await stat(marker)).mtimeMs < Date.now() - MARKER_STALE_MS) await rm(marker, { force: true });
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}

function locked(path: string, holder: Holder): BlockllmError {
  return new BlockllmError(
    "repository_locked",
    `process ${holder.pid} on ${holder.host} has held ${path} since ${new Date(holder.since).toISOString()}`,
    { hint: `wait for it to finish; if that process is gone, remove ${path}` },
  );
}
