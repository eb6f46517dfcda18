import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, it, onTestFinished } from "vitest";

import { checkIntegrity } from "../../src/store/check-integrity.ts";
import { collectGarbage } from "../../src/store/collect-garbage.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const WRITERS = 8;
const KILLS = 10;
const LONGEST_LIFE_MS = 150;

describe("many processes on one repository", { timeout: 120_000 }, () => {
  it("takes models from eight writers at once and loses none", async () => {
    // Not there yet: they also race for making it.
    const folder = join(await temporaryFolder(), "blocks");
    const writers = Array.from({ length: WRITERS }, (_, at) => startWriter([folder, `writer-${at}`, "3"]));
    expect(await Promise.all(writers.map((writer) => exitCode(writer)))).toEqual(writers.map(() => 0));

    const repository = await openRepository(folder);
    expect(await repository.listModels()).toHaveLength(WRITERS * 3);
    expect(await checkIntegrity(repository)).toMatchObject({ problems: [], garbage_blobs: 0, temporaries: 0 });
  });

  it("is sound after every moment at which a writer was killed, and complete once one comes through", async () => {
    const folder = join(await temporaryFolder(), "blocks");
    // What a crash of another program may have left under a blob's name is there from the start.
    await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
    await writeFile(join(folder, "blobs", "sha256", "0".repeat(64)), "half of a b");

    for (let kill = 0; kill < KILLS; kill++) {
      const writer = startWriter([folder, "bot", "2", "forever"]);
      await once(writer.stdout, "data");
      await new Promise((resolve) => setTimeout(resolve, Math.random() * LONGEST_LIFE_MS));
      writer.kill("SIGKILL");
      await once(writer, "exit");
      expect((await checkIntegrity(await openRepository(folder))).problems).toEqual([]);
    }

    expect(await exitCode(startWriter([folder, "bot", "2"]))).toBe(0);
    const repository = await openRepository(folder);
    await collectGarbage(repository, { graceMs: 0 });
    expect(await checkIntegrity(repository)).toMatchObject({
      models: 2,
      problems: [],
      garbage_blobs: 0,
      temporaries: 0,
    });
  });
});

function startWriter(args: string[]) {
  const script = join(import.meta.dirname, "writer-process.ts");
  const child = spawn(process.execPath, ["--import", "tsx", script, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

async function exitCode(child: ReturnType<typeof startWriter>): Promise<number> {
  child.stdout.resume();
  const [code] = (await once(child, "exit")) as [number];
  return code;
}
