/** What drafting from a surrogate chain costs beside single steps, on one executor that holds both. */
import type { BlockSource } from "../src/chain/resolve-chain.ts";
import { engineConfig } from "../src/engine/engine-config.ts";
import type { BatchItem, Executor } from "../src/engine/execute/executor.ts";
import { likeliest } from "../src/engine/execute/sampler.ts";
import { loadModels } from "../src/engine/load-models.ts";
import { spreadOf } from "./measure.ts";
import { withSurrogates, type Answered, type Surrogate } from "./surrogate-search.ts";

/** In single steps of the same batch; the model is loaded alone for those, as it would be without drafts. */
export interface Costs {
  batch: number;
  draft: number;
  /** By the number of drafted tokens. */
  passes: ReadonlyMap<number, number>;
}

export interface LoopResult {
  /** Tokens per second against single steps. */
  speed: number;
  sameTokens: boolean;
}

const MAX_TOKENS = 256;

export async function measureCosts(
  source: BlockSource,
  options: {
    model: string;
    surrogate: Surrogate;
    prompt: number[];
    batches: number[];
    drafts: number[];
    steps: number;
  },
): Promise<Costs[]> {
  const { model, surrogate, prompt, batches, drafts, steps } = options;
  const both = await load(source, model, surrogate);
  const alone = await load(source, model, null);
  const results: Costs[] = [];
  for (const batch of batches) {
    const single = await prepare(alone, { model, batch, prompt });
    const verifying = await prepare(both, { model, batch, prompt });
    const drafting = await prepare(both, { model: surrogate.name, batch, prompt });
    const times = { single: [] as number[], draft: [] as number[], passes: drafts.map(() => [] as number[]) };
    for (let step = -3; step < steps; step++) {
      const [a, b] = [await single(1), await drafting(1)];
      const passes = [];
      for (const count of drafts) passes.push(await verifying(1 + count));
      if (step < 0) continue;
      times.single.push(a);
      times.draft.push(b);
      passes.forEach((time, at) => times.passes[at]!.push(time));
    }
    const one = spreadOf(times.single).median;
    results.push({
      batch,
      draft: spreadOf(times.draft).median / one,
      passes: new Map(drafts.map((count, at) => [count, spreadOf(times.passes[at]!).median / one])),
    });
    for (const executor of [both, alone]) for (let id = 0; id < 1000; id++) executor.release(id);
  }
  await both.close();
  await alone.close();
  return results;
}

/** Drafts and verifies greedily, one sequence at a time, in turns with single steps. */
export async function runLoop(
  source: BlockSource,
  {
    model,
    surrogate,
    answers,
    drafts,
  }: { model: string; surrogate: Surrogate; answers: readonly Answered[]; drafts: number },
): Promise<LoopResult> {
  const both = await load(source, model, surrogate);
  const alone = await load(source, model, null);
  const ratios: number[] = [];
  let sameTokens = true;
  for (const { prompt, answer } of [answers[0]!, ...answers]) {
    const [first, tokens] = [answer[0]!, answer.length];
    const plain = await timed(async () => stepByStep(alone, { model, prompt, first, tokens }));
    const drafted = await timed(async () =>
      draftAndVerify(both, { model, surrogate: surrogate.name, prompt, first, tokens, drafts }),
    );
    sameTokens &&= plain.value.join() === drafted.value.join();
    ratios.push(plain.milliseconds / drafted.milliseconds);
  }
  await both.close();
  await alone.close();
  return { speed: spreadOf(ratios.slice(1)).median, sameTokens };
}

interface Answering {
  model: string;
  prompt: number[];
  /** The answer's first token, which the prompt's pass gives. */
  first: number;
  tokens: number;
}

interface Timed {
  value: number[];
  milliseconds: number;
}

/** The prompts' passes are not counted: `begin` them before `run`. */
async function timed(prepareRun: () => Promise<() => Promise<number[]>>): Promise<Timed> {
  const run = await prepareRun();
  const started = performance.now();
  const value = await run();
  return { value, milliseconds: performance.now() - started };
}

async function stepByStep(executor: Executor, { model, prompt, first, tokens }: Answering) {
  await begin(executor, { sequence: 1, model, prompt });
  return async (): Promise<number[]> => {
    const given = [first];
    while (given.length < tokens) {
      const item = rowsOf(1, [given.at(-1)!], prompt.length + given.length - 1);
      given.push(likeliest((await executor.execute([item]))[0]!));
    }
    return given;
  };
}

async function draftAndVerify(
  executor: Executor,
  { model, surrogate, prompt, first, tokens, drafts }: Answering & { surrogate: string; drafts: number },
) {
  await begin(executor, { sequence: 1, model, prompt });
  await begin(executor, { sequence: 2, model: surrogate, prompt });
  return async (): Promise<number[]> => {
    const given = [first];
    let surrogateKnows = prompt.length;
    while (given.length < tokens) {
      const known = prompt.length + given.length;
      const draft: number[] = [];
      while (draft.length < Math.min(drafts, tokens - given.length - 1)) {
        // What the surrogate has not been fed yet: the last given tokens, or its own last draft.
        const fed = [...given, ...draft].slice(surrogateKnows - prompt.length);
        const item = { ...rowsOf(2, fed, surrogateKnows), logits: "last" as const };
        surrogateKnows += fed.length;
        draft.push(likeliest((await executor.execute([item]))[0]!));
      }
      const logits = (await executor.execute([rowsOf(1, [given.at(-1)!, ...draft], known - 1)]))[0]!;
      const width = logits.length / (1 + draft.length);
      let accepted = 0;
      for (let at = 0; at <= draft.length; at++) {
        const token = likeliest(logits.subarray(at * width, (at + 1) * width));
        given.push(token);
        if (token !== draft[at]) break;
        accepted++;
      }
      const truth = known + accepted;
      if (accepted < draft.length) executor.truncate(1, truth);
      surrogateKnows = Math.min(surrogateKnows, truth);
      executor.truncate(2, surrogateKnows);
    }
    return given.slice(0, tokens);
  };
}

async function begin(
  executor: Executor,
  { sequence, model, prompt }: { sequence: number; model: string; prompt: number[] },
): Promise<void> {
  executor.release(sequence);
  executor.open(sequence, { model, maxTokens: MAX_TOKENS });
  await executor.execute([{ sequence, tokens: prompt, start: 0, logits: "none", stepwise: false }]);
}

function rowsOf(sequence: number, tokens: number[], start: number): BatchItem {
  return { sequence, tokens, start, logits: "all", stepwise: true };
}

async function load(source: BlockSource, model: string, surrogate: Surrogate | null): Promise<Executor> {
  const names = surrogate === null ? [model] : [model, surrogate.name];
  const extended = withSurrogates(source, model, surrogate === null ? [] : [surrogate]);
  const { executor, models } = await loadModels(extended, names, engineConfig());
  // Executors know models by their keys, this file by their names.
  const open: Executor["open"] = (sequence, { model: name, maxTokens }) =>
    executor.open(sequence, { model: models.find((one) => one.name === name)!.key, maxTokens });
  return {
    needs: executor.needs,
    open,
    execute: async (items) => executor.execute(items),
    readState: (sequence, range) => executor.readState(sequence, range),
    writeState: (sequence, range, state) => executor.writeState(sequence, range, state),
    truncate: (sequence, tokens) => executor.truncate(sequence, tokens),
    release: (sequence) => executor.release(sequence),
    stateBytes: () => executor.stateBytes(),
    close: async () => executor.close(),
  };
}

/** `batch` sequences behind one prompt; each call times a pass over so many rows of each, and forgets them. */
async function prepare(
  executor: Executor,
  { model, batch, prompt }: { model: string; batch: number; prompt: number[] },
): Promise<(rows: number) => Promise<number>> {
  const offset = model.includes(":without-") ? 100 : 0;
  const sequences = Array.from({ length: batch }, (_, at) => offset + at);
  for (const sequence of sequences) await begin(executor, { sequence, model, prompt });
  const pass = async (rows: number): Promise<number> => {
    const items = sequences.map((sequence) => rowsOf(sequence, Array(rows).fill(prompt[0]!), prompt.length));
    const started = performance.now();
    await executor.execute(items);
    const milliseconds = performance.now() - started;
    for (const sequence of sequences) executor.truncate(sequence, prompt.length);
    return milliseconds;
  };
  // Whatever ran before has filled the processor's caches: the second pass counts.
  return async (rows) => {
    await pass(rows);
    return await pass(rows);
  };
}
