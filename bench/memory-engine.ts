/** The engine in a process of its own, with models that come and go: one column of bench/memory.ts. */
import { startEngine, type EngineClient } from "../src/engine/engine-client.ts";
import { ownInput, proportionalSetBytes } from "./measure.ts";

export interface MemoryInput {
  repository: string;
  models: string[];
  /** Bytes for models that take turns; absent: models come and go, with memory for all. */
  budget?: number;
}

/** Bytes; PSS beyond what the process took before. */
export interface GrowingResult {
  process: number;
  /** After each model came. */
  came: Held[];
  /** When all had answered at once. */
  used: Held;
  /** When all but the first had gone. */
  left: Held;
}

export interface ShortResult {
  most: number;
  loads: number;
  unloads: number;
}

export interface Held {
  counted: number;
  measured: number;
}

const PROMPT_TOKENS = 96;
const NEW_TOKENS = 8;
const ROUNDS = 2;
const LOOK_MS = 50;
const PLENTY = 16e9;

const input = ownInput() as MemoryInput;
const { repository, models } = input;
const [first] = models as [string, ...string[]];
const knobs = { repository, speculate: "off", solo: "off" } as const;
const before = proportionalSetBytes();

console.log(JSON.stringify(input.budget === undefined ? await runGrowing() : await runShort(input.budget)));

/** Models that come one by one, all answer, and go. */
async function runGrowing(): Promise<GrowingResult> {
  const engine = await startEngine({ ...knobs, models: [first], memoryBytes: PLENTY });
  const came = [await held(engine)];
  for (let count = 2; count <= models.length; count++) {
    await engine.changeModels(models.slice(0, count));
    came.push(await held(engine));
  }
  await Promise.all(models.flatMap((model) => [ask(engine, model, 0), ask(engine, model, 1)]));
  const used = await held(engine);
  await engine.changeModels([first]);
  const left = await held(engine);
  await engine.close();
  return { process: before, came, used, left };
}

/** Models that take turns in less memory than all take. */
async function runShort(memoryBytes: number): Promise<ShortResult> {
  const engine = await startEngine({ ...knobs, models, memoryBytes });
  let most = 0;
  const look = (): number => (most = Math.max(most, proportionalSetBytes() - before));
  const looking = setInterval(look, LOOK_MS);
  for (let round = 0; round < ROUNDS; round++)
    for (const model of models) await Promise.all([0, 1].map((place) => ask(engine, model, round * 2 + place)));
  clearInterval(looking);
  look();
  const { loads, unloads } = await engine.stats();
  await engine.close();
  return { most, loads: loads.count, unloads };
}

/** When all that is to be loaded is, and nothing runs. */
async function held(client: EngineClient): Promise<Held> {
  for (;;) {
    const { segments, loadedSegments, weightBytes, kvBytes, prefixBytes } = await client.stats();
    if (loadedSegments === segments)
      return { counted: weightBytes + kvBytes + prefixBytes, measured: proportionalSetBytes() - before };
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function ask(client: EngineClient, model: string, seed: number): Promise<void> {
  const tokens = Array.from({ length: PROMPT_TOKENS }, (_, at) => (seed * 7919 + at * 104_729 + 11) % 49_152);
  const sampling = { temperature: 0 };
  const request = { model, tokens, maxTokens: NEW_TOKENS, sampling, tenant: model, ignoreEnd: true };
  for await (const event of client.submit(request).events)
    if (event.type === "request-end" && event.error) throw event.error;
}
