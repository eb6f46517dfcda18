/** Surrogate chains: a model's own chain with blocks left out, and how often its likeliest token is the model's. */
import type { BlockSource } from "../src/chain/resolve-chain.ts";
import { openForward } from "../src/engine/forward.ts";
import { likeliest } from "../src/engine/execute/sampler.ts";
import type { ModelDocument } from "../src/store/model-document.ts";

export interface Surrogate {
  name: string;
  /** Places in the chain that are left out, and what lies there. */
  removed: number[];
  labels: string[];
}

export interface Rated extends Surrogate {
  /** Share of answer tokens for which both choose the same, fed the model's own answers. */
  agreement: number;
}

/** A prompt with the answer that the model itself gives, greedily. */
export interface Answered {
  prompt: number[];
  answer: number[];
}

/** Attention and MLP blocks: what may be left out. */
export function innerBlocks({ chain }: ModelDocument): number[] {
  return chain.flatMap(({ kind }, place) => (kind === "attention" || kind === "mlp" ? [place] : []));
}

export function surrogateOf(model: string, document: ModelDocument, removed: readonly number[]): Surrogate {
  const labels = removed.map((place) => `${document.chain[place]!.kind} ${document.chain[place]!.layer}`);
  return { name: `${model}:without-${removed.join("-")}`, removed: [...removed], labels };
}

/** The repository, with surrogates beside its models. */
export function withSurrogates(source: BlockSource, model: string, surrogates: readonly Surrogate[]): BlockSource {
  return {
    blobs: source.blobs,
    readBlock: async (digest) => source.readBlock(digest),
    ...("readAdapter" in source ? { readAdapter: source.readAdapter.bind(source) } : {}),
    readModel: async (name: string) => {
      const surrogate = surrogates.find((one) => one.name === name);
      if (!surrogate) return source.readModel(name);
      const { document } = await source.readModel(model);
      const chain = document.chain.filter((_, place) => !surrogate.removed.includes(place));
      return { name, document: { ...document, chain } };
    },
  } as BlockSource;
}

export async function answerAll(
  source: BlockSource,
  model: string,
  { prompts, count }: { prompts: number[][]; count: number },
): Promise<Answered[]> {
  const forward = await openForward(source, model);
  const answered: Answered[] = [];
  for (const prompt of prompts) answered.push({ prompt, answer: await forward.greedy(prompt, count) });
  await forward.close();
  return answered;
}

export async function agreementOf(
  source: BlockSource,
  { model, surrogate, answers }: { model: string; surrogate: Surrogate; answers: readonly Answered[] },
): Promise<number> {
  const forward = await openForward(withSurrogates(source, model, [surrogate]), surrogate.name);
  let [same, all] = [0, 0];
  for (const { prompt, answer } of answers) {
    const logits = await forward.logits([...prompt, ...answer.slice(0, -1)]);
    const width = forward.model.vocabSize;
    answer.forEach((token, at) => {
      const row = prompt.length - 1 + at;
      same += Number(likeliest(logits.subarray(row * width, (row + 1) * width)) === token);
      all++;
    });
  }
  await forward.close();
  return same / all;
}

/** Leaves out one block after the other, each time the one without which agreement stays highest. */
export async function leaveOutGreedily(
  source: BlockSource,
  { model, document, answers }: { model: string; document: ModelDocument; answers: readonly Answered[] },
): Promise<Rated[]> {
  const path: Rated[] = [];
  let removed: number[] = [];
  let left = innerBlocks(document);
  // A chain without any core could not be fed as the engine feeds it.
  while (left.length > 2) {
    let best: Rated | null = null;
    for (const place of left) {
      const surrogate = surrogateOf(model, document, [...removed, place]);
      if (!keepsCore(document, surrogate)) continue;
      const agreement = await agreementOf(source, { model, surrogate, answers });
      if (best === null || agreement > best.agreement) best = { ...surrogate, agreement };
    }
    if (best === null) break;
    path.push(best);
    removed = best.removed;
    left = left.filter((place) => !removed.includes(place));
  }
  return path;
}

function keepsCore({ chain }: ModelDocument, { removed }: Surrogate): boolean {
  return chain.some(({ kind }, place) => kind === "attention" && !removed.includes(place));
}
