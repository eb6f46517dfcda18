import { readFile } from "node:fs/promises";
import type { OpaqueSpec } from "../../src/blocks/block.ts";
import { engineConfig } from "../../src/engine/engine-config.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import { loadModels } from "../../src/engine/load-models.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import { describeExecutor, type ExecutorCase } from "./executor.conformance.ts";
import { temporaryRepository, type TemporaryRepository } from "./temporary-repository.ts";
import { coreOf, TINY, writeWholeModel } from "./tiny-model.ts";

function next(history: readonly number[], model: string): number {
  return history.reduce((sum, token) => (sum * 3 + token) % 16, model.length);
}

describeExecutor("a script", async () => {
  const executor = new ScriptedExecutor({ vocabSize: 16, bytesPerToken: 4, next });
  return { executor, models: ["one", "other"], vocabSize: 16, truncates: true, close: async () => executor.close() };
});

describeExecutor("a plan of chains", async () => {
  const source = await temporaryRepository([
    { name: "one", layers: [10, 11] },
    { name: "other", layers: [10, 21] },
  ]);
  return await loaded(source, ["one", "other"]);
});

describeExecutor("an opaque model", async () => {
  const source = await temporaryRepository([]);
  await putOpaqueModel(source, "one");
  return await loaded(source, ["one", "one"]);
});

describeExecutor("chains beside an opaque model", async () => {
  const source = await temporaryRepository([{ name: "one", layers: [10, 11] }]);
  await putOpaqueModel(source, "other");
  return await loaded(source, ["one", "other"]);
});

async function loaded(source: TemporaryRepository, models: [string, string]): Promise<ExecutorCase> {
  const { executor, models: loadedModels } = await loadModels(
    source.repository,
    [...new Set(models)],
    engineConfig({ threads: 1 }),
  );
  const close = async (): Promise<void> => {
    await executor.close();
    await source.remove();
  };
  const keys = models.map((name) => loadedModels.find((model) => model.name === name)!.key) as [string, string];
  return { executor, models: keys, vocabSize: TINY.vocab, truncates: loadedModels[0]!.speculates, close };
}

/** The whole tiny model kept as one block; it has no rotary rows, so that its inputs are those of real files. */
async function putOpaqueModel({ repository, folder }: TemporaryRepository, name: string): Promise<void> {
  const bytes = await readFile(await writeWholeModel(`${folder}-whole`, { name, layers: [10, 31], rotary: false }));
  const stored = await repository.blobs.put(bytes, "application/vnd.blockllm.graph.v1+onnx");
  const { kvHeads, headSize } = coreOf(TINY);
  const past = [0, 1].flatMap((layer) =>
    ["key", "value"].map((half): OpaqueSpec["past"][number] => ({
      input: `past.${layer}.${half}`,
      output: `present.${layer}.${half}`,
      dtype: "float32",
      dims: [1, kvHeads, "P", headSize],
      sequenceAxis: 2,
    })),
  );
  const opaque: OpaqueSpec = {
    ids: "ids",
    attentionMask: null,
    positions: null,
    logits: "logits",
    past,
    constants: [],
  };
  const part = {
    role: "main" as const,
    graph: stored.digest,
    graphBytes: stored.size,
    inputs: [],
    outputs: [],
    tensors: [],
  };
  const block = await repository.putBlock({
    version: 1,
    kind: "opaque",
    parts: [part],
    core: null,
    rotary: null,
    opaque,
  });
  const document: ModelDocument = {
    version: 1,
    exporter: "test",
    family: "tiny",
    precision: "fp32",
    opaque: true,
    layers: 2,
    hiddenSize: null,
    vocabSize: TINY.vocab,
    contextLength: 64,
    endTokens: [],
    beginToken: null,
    chain: [{ kind: "opaque", layer: null, digest: block.digest, bytes: stored.size }],
    files: [],
    recognised: [],
    warnings: [],
  };
  await repository.putModel(name, document);
}
