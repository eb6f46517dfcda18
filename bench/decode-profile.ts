/**
 * Where a step's time goes: the engine's executor alone in this thread, with every call into ONNX Runtime timed. A step is the
 * sum over its calls, and what lies between them, of the least that each took in any step: other load hardly counts.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { openRepository } from "../src/store/open-repository.ts";
import { engineConfig } from "../src/engine/engine-config.ts";
import type { BatchItem } from "../src/engine/execute/executor.ts";
import { likeliest } from "../src/engine/execute/sampler.ts";
import { loadModels } from "../src/engine/load-models.ts";
import { promptOf, type DecodeInput } from "./decode-sides.ts";
import { ownInput } from "./measure.ts";

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

interface Call {
  kind: "segments" | "cores";
  took: number;
  /** JavaScript since the call before, or since the step began. */
  before: number;
}

interface NativeSession {
  run(feeds: Record<string, unknown>, ...others: unknown[]): unknown;
}

const input = ownInput() as DecodeInput;
let calls: Call[] = [];
let last = 0;
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
const steps: { calls: Call[]; after: number }[] = [];
for (let step = 0; step < input.steps; step++) steps.push(await decode());
console.log(JSON.stringify(leastOf(steps)));

async function decode(): Promise<{ calls: Call[]; after: number }> {
  calls = [];
  last = performance.now();
  const logits = await executor.execute(items);
  items = items.map((item, index) => nextItem(item, logits[index]!));
  return { calls, after: performance.now() - last };
}

/** Every step makes the same calls in the same order. */
function leastOf(measured: { calls: Call[]; after: number }[]): StepProfile {
  const profile = { step: 0, segments: 0, segmentCalls: 0, cores: 0, coreCalls: 0, rest: 0 };
  measured[0]!.calls.forEach(({ kind }, at) => {
    profile[kind] += Math.min(...measured.map((step) => step.calls[at]!.took));
    profile[kind === "cores" ? "coreCalls" : "segmentCalls"]++;
    profile.rest += Math.min(...measured.map((step) => step.calls[at]!.before));
  });
  profile.rest += Math.min(...measured.map(({ after }) => after));
  return { ...profile, step: profile.segments + profile.cores + profile.rest };
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
      const ended = performance.now();
      calls.push({ kind: "q" in feeds ? "cores" : "segments", took: ended - started, before: started - last });
      last = ended;
      return outputs;
    }
  };
}
