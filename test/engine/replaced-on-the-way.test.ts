import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startEngine, type EngineClient } from "../../src/engine/engine-client.ts";
import type { EngineEvent } from "../../src/engine/request.ts";
import { digestDocument } from "../../src/fingerprint/digest.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { putTinyModel } from "./tiny-model.ts";

let source: TemporaryRepository;
let engine: EngineClient;

beforeEach(async () => {
  source = await temporaryRepository([
    { name: "m", layers: [10], shape: { vocab: 96 } },
    { name: "other", layers: [20], shape: { vocab: 96 } },
  ]);
  engine = await startEngine({ repository: source.folder, models: "all", threads: 1, maxQueue: 10_000 });
});
afterEach(async () => {
  await engine.close();
  await source.remove();
});

/** Another model under the name, with words of its own. */
async function replace(name: string, vocab: number): Promise<void> {
  await source.repository.removeModel(name);
  await putTinyModel(source.repository, { name, layers: [10], shape: { vocab } });
}

/** Asks with the last word of what is served at the moment. */
async function askWithLastWord(name: string): Promise<EngineEvent | undefined> {
  const { vocabSize } = engine.models.find((model) => model.name === name)!;
  const request = { model: name, tokens: [vocabSize - 1], maxTokens: 1, ignoreEnd: true };
  let last: EngineEvent | undefined;
  for await (const event of engine.submit(request).events) last = event;
  return last;
}

test("a request is for the model that was served when it was made, also while that is being replaced", async () => {
  const ends: Promise<EngineEvent | undefined>[] = [];
  let open = 0;
  const ask = (name: string): void => {
    open++;
    ends.push(askWithLastWord(name).finally(() => open--));
  };
  for (const vocab of [64, 96, 48]) {
    await replace("m", vocab);
    const changing = engine.changeModels("all");
    for (;;) {
      if (open < 50) ["m", "other"].forEach(ask);
      if ((await Promise.race([changing, pause(1)])) !== undefined) break;
    }
    expect(engine.models.map(({ vocabSize }) => vocabSize)).toContain(vocab);
  }
  for (const end of await Promise.all(ends)) expect(end).toMatchObject({ type: "request-end", reason: "length" });
}, 60_000);

test("a model that is not the one the caller has read is not taken, and everything stays as it is", async () => {
  const read = await source.repository.readModel("m");
  await replace("m", 64);
  const documents = { m: digestDocument(read.document) };
  await expect(engine.changeModels("all", { documents })).rejects.toMatchObject({ code: "model_changed" });
  expect(engine.models.map(({ vocabSize }) => vocabSize)).toEqual([96, 96]);
  expect(await askWithLastWord("m")).toMatchObject({ reason: "length" });
});
