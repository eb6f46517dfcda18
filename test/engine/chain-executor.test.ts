import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RotarySpec } from "../../src/blocks/block.ts";
import { rotaryRows } from "../../src/chain/rotary-rows.ts";
import { openForward } from "../../src/engine/forward.ts";
import { likeliest } from "../../src/engine/execute/sampler.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { TINY, writeWholeModel, type TinyModel } from "./tiny-model.ts";

const MODELS: TinyModel[] = [
  { name: "plain", layers: [10, 11, 12] },
  { name: "capped", layers: [10, 21, 12], shape: { core: { softcap: 3 } } },
  { name: "repeated", layers: [10, 11, 11, 10] },
];
const ROTARY: RotarySpec = {
  dim: TINY.headSize,
  interleaved: false,
  frequencies: { kind: "theta", theta: 10_000 },
  scale: 1,
};
const PROMPT = Array.from({ length: 150 }, (_, at) => (at * 37 + 11) % TINY.vocab);

let source: TemporaryRepository;
beforeAll(async () => (source = await temporaryRepository(MODELS)));
afterAll(async () => source.remove());

test.each(MODELS)("$name: the chain says what the whole model says in ONNX Runtime", async (model) => {
  const whole = await InferenceSession.create(await writeWholeModel(`${source.folder}-whole`, model));
  const expected = await runWhole(whole, model, { ids: PROMPT, start: 0, past: emptyPast(model) });
  const chain = await openForward(source.repository, model.name, { threads: 1 });
  const given = await chain.logits(PROMPT);
  expect(given.length).toBe(expected.logits.length);
  expect(Math.max(...given.map((logit, at) => Math.abs(logit - expected.logits[at]!)))).toBeLessThan(1e-4);

  const greedy: number[] = [];
  for (let { logits, past } = expected, start = PROMPT.length; greedy.length < 24; start++) {
    greedy.push(likeliest(logits.subarray(-TINY.vocab)));
    ({ logits, past } = await runWhole(whole, model, { ids: [greedy.at(-1)!], start, past }));
  }
  expect(await chain.greedy(PROMPT, 24)).toEqual(greedy);
  await chain.close();
});

type Past = Record<string, Tensor>;

async function runWhole(
  session: InferenceSession,
  { layers }: TinyModel,
  { ids, start, past }: { ids: number[]; start: number; past: Past },
): Promise<{ logits: Float32Array; past: Past }> {
  const { cos, sin } = rotaryRows(
    ROTARY,
    ids.map((_, at) => start + at),
    null,
  );
  const half = TINY.headSize / 2;
  const outputs = await session.run({
    ...past,
    ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
    cos: new Tensor("float32", cos, [1, ids.length, half]),
    sin: new Tensor("float32", sin, [1, ids.length, half]),
  });
  const next = pastNames(layers.length).map((name) => [name, outputs[name.replace("past", "present")]!] as const);
  return { logits: outputs["logits"]!.data as Float32Array, past: Object.fromEntries(next) };
}

function emptyPast({ layers }: TinyModel): Past {
  const dims = [1, TINY.kvHeads, 0, TINY.headSize];
  return Object.fromEntries(
    pastNames(layers.length).map((name) => [name, new Tensor("float32", new Float32Array(0), dims)]),
  );
}

function pastNames(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) => [`past.${layer}.key`, `past.${layer}.value`]).flat();
}
