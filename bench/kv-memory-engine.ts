/** The engine in a process of its own, filled with sequences in two waves: what bench/kv-memory.ts measures. */
import { setTimeout as sleep } from "node:timers/promises";
import { startEngine } from "../src/engine/engine-client.ts";
import { PAGE_TOKENS } from "../src/engine/kv/page-ledger.ts";
import { ownInput, proportionalSetBytes } from "./measure.ts";
import { SMOLLM2_135M } from "./model-graph.ts";

export interface KvMemoryInput {
  repository: string;
  sequences: number;
  /** Of the prompts in the second wave; a third of it in the first. */
  tokens: number;
}

export interface KvMemoryResult {
  /** Between the waves, as the engine's stats say it. */
  reportedBytes: number;
  /** The same as the operating system says it. */
  grownBytes: number;
  /** Pages claimed beyond what the tokens fill, per sequence; a page spans all layers. */
  wastedPages: number;
  /** Claimed for sequences after all were cancelled. */
  leftBytes: number;
}

const LOOKS = 12;
const LOOK_MS = 150;
const BYTES_PER_TOKEN = SMOLLM2_135M.layers * SMOLLM2_135M.keyValueHeads * SMOLLM2_135M.headSize * 2 * 4;

const input = ownInput() as KvMemoryInput;
const engine = await startEngine({
  repository: input.repository,
  models: "all",
  kvMemoryBytes: 4 * 2 ** 30,
  speculate: "off",
  prefixCache: "off",
});
const held: { tokens: number; cancel: () => void }[] = [];

// Buffers of the runtime reach the size they keep.
await fill(input.sequences, Math.ceil(input.tokens / 3));
for (const { cancel } of held.splice(0)) cancel();
await sleep(LOOK_MS);

await fill(input.sequences, Math.ceil(input.tokens / 3));
const short = await look();
await fill(input.sequences, input.tokens);
const long = await look();
const tokens = held.reduce((sum, one) => sum + one.tokens, 0);
const { kvBytes } = await engine.stats();
const result: KvMemoryResult = {
  reportedBytes: long.reported - short.reported,
  grownBytes: long.memory - short.memory,
  wastedPages: (kvBytes / BYTES_PER_TOKEN - tokens) / PAGE_TOKENS / held.length,
  leftBytes: await emptied(),
};
await engine.close();
console.log(JSON.stringify(result));

/** Resolves when every new sequence has its first token: all of its prompt is cached then. */
async function fill(count: number, length: number): Promise<void> {
  const begun = Array.from({ length: count }, async (_, place) => {
    const prompt = Array.from({ length }, (_unused, at) => 3 + ((place * 31 + at * 7) % 500));
    const request = engine.submit({ model: engine.models[0]!.name, tokens: prompt, maxTokens: 4000, ignoreEnd: true });
    const one = { tokens: length, cancel: () => request.cancel() };
    held.push(one);
    await new Promise<void>((resolve, reject) => {
      const follow = async (): Promise<void> => {
        for await (const event of request.events) {
          if (event.type === "request-end" && event.error) throw event.error;
          if (event.type === "token-delta") one.tokens++;
          resolve();
        }
      };
      follow().catch(reject);
    });
  });
  await Promise.all(begun);
}

/** Where memory beyond the caches was least. */
async function look(): Promise<{ reported: number; memory: number }> {
  let best = { reported: 0, memory: Infinity };
  for (let at = 0; at < LOOKS; at++) {
    await sleep(LOOK_MS);
    const { kvBytes: reported } = await engine.stats();
    const memory = proportionalSetBytes();
    if (memory - reported < best.memory - best.reported) best = { reported, memory };
  }
  return best;
}

async function emptied(): Promise<number> {
  for (const { cancel } of held) cancel();
  for (let at = 0; at < LOOKS && (await engine.stats()).running > 0; at++) await sleep(LOOK_MS);
  return (await engine.stats()).kvBytes;
}
