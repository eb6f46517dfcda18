import { randomUUID } from "node:crypto";
import { open, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { BlockllmError } from "../support/errors.ts";
import { REPORT_MARK } from "./output/html/page.ts";

const HEAD_BYTES = 4096;

/** Before the work begins: may a report be written here? Only an earlier report or an empty file is written over. */
export async function checkReportPath(path: string): Promise<void> {
  await explained(path, async () => {
    if (!(await stat(dirname(resolve(path)))).isDirectory()) throw notAReport(path);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
    if (found === null || (found.isFile() && found.size === 0)) return;
    if (!found.isFile() || !(await readHead(path)).includes(REPORT_MARK)) throw notAReport(path);
  });
}

/** At once or not at all: whoever has the old report open keeps a whole one. */
export async function writeReport(path: string, page: string): Promise<void> {
  const incoming = join(dirname(resolve(path)), `.${basename(path)}-${randomUUID()}`);
  await explained(path, async () => {
    try {
      await writeFile(incoming, page, { flag: "wx" });
      await rename(incoming, path);
    } catch (error) {
      await rm(incoming, { force: true });
      throw error;
    }
  });
}

async function readHead(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}

function notAReport(path: string): BlockllmError {
  return new BlockllmError("usage", `--report is ${path}, which is there and is no report of blockllm`, {
    hint: "name a file that is not there yet, or remove this one",
  });
}

async function explained(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof BlockllmError || !(error instanceof Error) || !("code" in error)) throw error;
    const code = error.code === "ENOSPC" || error.code === "EDQUOT" ? "out_of_space" : "io_failed";
    throw new BlockllmError(code, `the report ${path} cannot be written: ${error.message}`, {
      hint: "give --report a file in a folder that exists and may be written",
      cause: error,
    });
  }
}
