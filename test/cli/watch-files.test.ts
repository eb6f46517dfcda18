import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { type FileWatch, watchFiles } from "../../src/cli/watch-files.ts";

const folder = mkdtempSync(join(tmpdir(), "blockllm-watch-"));
let watch: FileWatch | null = null;
afterEach(() => {
  watch?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("a file that is replaced, goes or comes is said, once each time; others are not", async () => {
  const [watched, still] = [join(folder, "watched"), join(folder, "still")];
  const replace = (text: string): void => {
    writeFileSync(`${watched}.new`, text);
    renameSync(`${watched}.new`, watched);
  };
  replace("one");
  writeFileSync(still, "still");
  watch = await watchFiles([watched, still], 5);
  // Between the first look and the start, as when models are loaded meanwhile.
  replace("two");
  const changes: string[] = [];
  watch.start((file) => changes.push(file));
  await expect.poll(() => changes).toEqual([watched]);
  rmSync(watched);
  await expect.poll(() => changes).toEqual([watched, watched]);
  replace("three");
  await expect.poll(() => changes).toEqual([watched, watched, watched]);
});
