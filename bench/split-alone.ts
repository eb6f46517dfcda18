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
  /** Look at the memory all the while; that takes time itself. */
  watchMemory: boolean;
}

export interface SplitResult {
  seconds: number;
  /** Of all threads; unlike the time, hardly moved by what else the machine does. */
  processorSeconds: number;
  peakBytes: number;
}

const CHUNK_BYTES = 1 << 20;
const SAMPLE_MILLISECONDS = 10;
const NEVER = 2 ** 31 - 1;

const input = ownInput() as SplitInput;
let peakBytes = proportionalSetBytes();
const sampling = setInterval(sample, input.watchMemory ? SAMPLE_MILLISECONDS : NEVER);
const processorBefore = process.cpuUsage();
const started = performance.now();
if (input.side === "split") await splitModel();
else await hashFile(input.data);
const seconds = (performance.now() - started) / 1000;
const { user, system } = process.cpuUsage(processorBefore);
clearInterval(sampling);
console.log(JSON.stringify({ seconds, processorSeconds: (user + system) / 1e6, peakBytes } satisfies SplitResult));

function sample(): void {
  peakBytes = Math.max(peakBytes, proportionalSetBytes());
}

async function splitModel(): Promise<void> {
  const { document } = await addModel(await openRepository(input.repository, { create: true }), input.folder);
  if (document.opaque) throw new Error(`The model was not cut: ${document.warnings.join("; ")}`);
}

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
