import type { ScheduledModel } from "../../src/engine/sequence.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";

const DOCUMENT: ModelDocument = {
  version: 1,
  exporter: "test",
  family: "scripted",
  precision: "fp32",
  opaque: false,
  layers: 0,
  hiddenSize: null,
  vocabSize: 32,
  contextLength: 128,
  endTokens: [],
  beginToken: null,
  chain: [],
  files: [],
  recognised: [],
  warnings: [],
};

/** A model for engines over a ScriptedExecutor. */
export function scriptedModel(given: Partial<ScheduledModel> & { name: string }): ScheduledModel {
  return {
    key: given.name,
    contextLength: 128,
    contextBound: "model",
    vocabSize: 32,
    endTokens: [],
    document: DOCUMENT,
    bytesPerToken: 8,
    leadTokens: 0,
    prefillChunk: 16,
    speculates: true,
    stretches: [
      {
        key: `sha256:${given.name}`,
        layers: { first: 0, end: 1 },
        bytesPerToken: given.bytesPerToken ?? 8,
        parting: null,
      },
    ],
    ...given,
  };
}
