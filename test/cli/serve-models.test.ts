import { expect, test } from "vitest";
import { changeModels } from "../../src/cli/serve-models.ts";
import type { EngineClient } from "../../src/engine/engine-client.ts";
import { digestDocument } from "../../src/fingerprint/digest.ts";
import { BlockllmError } from "../../src/support/errors.ts";
import { temporaryRepository } from "../engine/temporary-repository.ts";
import { putTinyModel } from "../engine/tiny-model.ts";

type Change = EngineClient["changeModels"];

/** An engine that only changes its models. */
function engineThat(changes: (call: number) => Promise<void> | void) {
  const asked: Parameters<Change>[] = [];
  const changing: Change = async (...call) => {
    asked.push(call);
    await changes(asked.length);
    return [];
  };
  return { asked, engine: { changeModels: changing } as EngineClient };
}

function tooLate(): BlockllmError {
  return new BlockllmError("model_changed", "another process put another model under the name m meanwhile");
}

test("a model that is replaced while it is read is read again, so that its text and weights belong together", async () => {
  const source = await temporaryRepository([{ name: "m", layers: [10] }]);
  const { engine, asked } = engineThat(async (call) => {
    if (call > 1) return;
    await source.repository.removeModel("m");
    await putTinyModel(source.repository, { name: "m", layers: [11] });
    throw tooLate();
  });
  await changeModels(engine, source.folder, "all");
  const { document } = await source.repository.readModel("m");
  expect(asked.map(([names]) => names)).toEqual([["m"], ["m"]]);
  expect(asked[0]![1]!.documents).not.toEqual(asked[1]![1]!.documents);
  expect(asked[1]![1]!.documents).toEqual({ m: digestDocument(document) });
  await source.remove();
});

test("one that is replaced again and again is given up for now, and other errors at once", async () => {
  const source = await temporaryRepository([{ name: "m", layers: [10] }]);
  const late = engineThat(() => {
    throw tooLate();
  });
  await expect(changeModels(late.engine, source.folder, "all")).rejects.toMatchObject({ code: "model_changed" });
  expect(late.asked.length).toBe(5);
  const full = engineThat(() => {
    throw new BlockllmError("memory_exceeded", "m does not fit");
  });
  await expect(changeModels(full.engine, source.folder, "all")).rejects.toMatchObject({ code: "memory_exceeded" });
  expect(full.asked.length).toBe(1);
  await source.remove();
});
