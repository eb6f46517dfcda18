/** One `split` in a process of its own, or sha256 over the same bytes: bench/split.ts runs both in turn. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

import { addModel } from "../src/store/add-model.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { ownInput, proportionalSetBytes } from "./measure.ts";

export interface SplitInput {
  side: "split" | "sha256";
  folder: string;
  data: string;
  repository: string;
}

export interface SplitResult {
  seconds: number;
  peakBytes: number;
}

const CHUNK_BYTES = 1 << 20;
const SAMPLE_MILLISECONDS = 20;

const input = ownInput() as SplitInput;
let peakBytes = proportionalSetBytes();
const sampling = setInterval(() => (peakBytes = Math.max(peakBytes, proportionalSetBytes())), SAMPLE_MILLISECONDS);
const started = performance.now();
if (input.side === "split") await addModel(await openRepository(input.repository, { create: true }), input.folder);
else await hashFile(input.data);
const seconds = (performance.now() - started) / 1000;
clearInterval(sampling);
console.log(JSON.stringify({ seconds, peakBytes } satisfies SplitResult));

async function hashFile(path: string): Promise<void> {
  await using file = await open(path);
  const running = createHash("sha256");
  const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length);
    if (bytesRead === 0) break;
    running.update(chunk.subarray(0, bytesRead));
  }
  running.digest("hex");
}
