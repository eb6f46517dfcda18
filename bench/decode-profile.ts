/** Where a step's time goes: the engine's executor alone in this thread, with every call into ONNX Runtime timed. */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { openRepository } from "../src/store/open-repository.ts";
import { engineConfig } from "../src/engine/engine-config.ts";
import type { BatchItem } from "../src/engine/execute/executor.ts";
import { likeliest } from "../src/engine/execute/sampler.ts";
import { loadModels } from "../src/engine/load-models.ts";
import { promptOf, type DecodeInput } from "./decode-sides.ts";
import { ownInput, spreadOf } from "./measure.ts";

/** Milliseconds of one step, and calls into the runtime. */
export interface StepProfile {
  step: number;
  segments: number;
  segmentCalls: number;
  cores: number;
  coreCalls: number;
  /** JavaScript, and the way into the runtime and back. */
  rest: number;
}

interface NativeSession {
  run(feeds: Record<string, unknown>, ...others: unknown[]): unknown;
}

const input = ownInput() as DecodeInput;
let spent = noTime();
timeNativeSessions();
const config = engineConfig({ threads: input.threads });
const { executor, models } = await loadModels(await openRepository(input.repository), input.models, config);
const sequences = models.flatMap(({ key: model }, index) =>
  Array.from({ length: input.sequencesEach }, (_, place) => ({ model, number: index * input.sequencesEach + place })),
);
let items: BatchItem[] = [];
for (const { model, number } of sequences) {
  executor.open(number, { model, maxTokens: input.context + input.warmUp + input.steps });
  const prompt = { sequence: number, tokens: promptOf(number, input.context), start: 0 };
  const [logits] = await executor.execute([{ ...prompt, logits: "last", stepwise: false }]);
  items.push(nextItem(prompt, logits!));
}
for (let step = 0; step < input.warmUp; step++) await decode();
const profiles: StepProfile[] = [];
for (let step = 0; step < input.steps; step++) profiles.push(await decode());
const keys = ["step", "segments", "segmentCalls", "cores", "coreCalls", "rest"] as const;
const medians = keys.map((key) => [key, spreadOf(profiles.map((profile) => profile[key])).median] as const);
console.log(JSON.stringify(Object.fromEntries(medians)));

async function decode(): Promise<StepProfile> {
  spent = noTime();
  const started = performance.now();
  const logits = await executor.execute(items);
  items = items.map((item, index) => nextItem(item, logits[index]!));
  const step = performance.now() - started;
  return { ...spent, step, rest: step - spent.segments - spent.cores };
}

function nextItem({ sequence, tokens, start }: Pick<BatchItem, "sequence" | "tokens" | "start">, logits: Float32Array) {
  return {
    sequence,
    tokens: [likeliest(logits)],
    start: start + tokens.length,
    logits: "last",
    stepwise: true,
  } as const;
}

function noTime(): Omit<StepProfile, "step" | "rest"> {
  return { segments: 0, segmentCalls: 0, cores: 0, coreCalls: 0 };
}

/** The binding makes a native object per session; from here on it makes one that counts. */
function timeNativeSessions(): void {
  const require = createRequire(import.meta.url);
  const folder = dirname(require.resolve("onnxruntime-node"));
  const { binding } = require(join(folder, "binding.js")) as {
    binding: { InferenceSession: new () => NativeSession };
  };
  binding.InferenceSession = class extends binding.InferenceSession {
    override run(feeds: Record<string, unknown>, ...others: unknown[]): unknown {
      const started = performance.now();
      const outputs = super.run(feeds, ...others);
      const kind = "q" in feeds ? "cores" : "segments";
      spent[kind] += performance.now() - started;
      spent[kind === "cores" ? "coreCalls" : "segmentCalls"]++;
      return outputs;
    }
  };
}
