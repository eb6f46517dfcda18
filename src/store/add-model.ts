import { statSync } from "node:fs";
import { basename, extname } from "node:path";

import type { Digest, OpaqueSpec } from "../blocks/block.ts";
import type { Granularity } from "../blocks/cut-model.ts";
import { takeApart } from "../blocks/take-apart.ts";
import { SHORTEST_CONTEXT } from "../canonical/canonicalise.ts";
import { describeExporter, describeFindings, describePrecision } from "../canonical/describe-model.ts";
import { layersOf } from "../canonical/probe.ts";
import type { OnnxModel } from "../onnx/model.ts";
import { bindAdapter, readAdapter } from "../onnx/read-adapter.ts";
import { readModel } from "../onnx/read-model.ts";
import { closeFiles } from "../onnx/tensor-data.ts";
import { BlockllmError } from "../support/errors.ts";
import { canonicalModelName } from "./model-name.ts";
import type { ModelDocument } from "./model-document.ts";
import type { Repository } from "./repository.ts";
import { chooseAdapter } from "./source-adapter.ts";
import { locateModel, type SourceFacts, type SourceModel } from "./source-folder.ts";
import { storeBlocks, storeFiles, storeOpaque, type StoreProgress } from "./store-blocks.ts";

export interface AddModelOptions {
  /** Overrides the folder's name. */
  name?: string;
  /** The tag, where several versions of one name are kept. */
  as?: string;
  /** The LoRA (an `.onnx_adapter` file) to bind to the graph's adapter inputs; the folder's only one by default. */
  adapter?: string;
  /** The longest sequence that is served, in tokens; shorter than what the files say, at least 16. */
  context?: number;
  /** How fine blocks are (default module: attention and MLP apart). */
  granularity?: Granularity;
  /** Allow no merge that changes numbers, now and later (`ModelDocument.exactOnly`). */
  exactOnly?: boolean;
  /** Take a name over from another model. */
  replace?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: StoreProgress) => void;
}

/** How the warning of an opaque model begins; the node and the reason follow. */
export const KEPT_WHOLE = "kept whole, nothing inside is shared: ";

export interface AddedModel {
  name: string;
  digest: Digest;
  document: ModelDocument;
}

/**
 * Takes a model folder into the repository: read → canonicalise → cut → store → name. Weights are streamed once from
 * where they lie into their blobs; the name appears last, so an interruption leaves garbage and never half a model.
 */
export async function addModel(
  repository: Repository,
  path: string,
  options: AddModelOptions = {},
): Promise<AddedModel> {
  const source = locateModel(path);
  const name = chooseName(source, options);
  try {
    const model = withAdapter(await readModel(source.graph), source, options.adapter);
    const document = await storeModel(repository, { source, model }, options);
    const stored = await repository.putModel(name, document, {
      origin: {
        folder: basename(source.folder),
        graph: basename(source.graph),
        bytes: sourceBytes(source, model),
      },
      ...(options.replace === true ? { replace: true } : {}),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return { name: stored.name, digest: stored.digest, document };
  } finally {
    closeFiles();
  }
}

async function storeModel(
  repository: Repository,
  { source, model }: { source: SourceModel; model: OnnxModel },
  options: AddModelOptions,
): Promise<ModelDocument> {
  const facts = withContext(source.facts, options.context);
  options.signal?.throwIfAborted();
  const apart = takeApart(model, facts, options.granularity);
  const { blobs } = repository;
  const context = {
    repository,
    blobs,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  };
  const files = await storeFiles(context, source.files);
  const warnings = files.some((file) => file.name === "tokenizer.json")
    ? []
    : ["no tokenizer.json: this model takes and gives token ids only"];
  const shared = {
    version: 1,
    exporter: describeExporter(model),
    family: facts.family ?? "unknown",
    endTokens: facts.endTokens,
    beginToken: facts.beginToken,
    files,
    ...(options.exactOnly === true ? { exactOnly: true } : {}),
  } as const;
  if (apart.kind === "opaque") {
    const chain = await storeOpaque(context, apart);
    return {
      ...shared,
      precision: "as exported",
      opaque: true,
      layers: layersHolding(apart.spec.past),
      hiddenSize: null,
      vocabSize: vocabularyOf(model.graph.outputs, apart.spec.logits),
      contextLength: facts.contextLength,
      chain,
      recognised: [],
      warnings: [...warnings, `${KEPT_WHOLE}${apart.reason}`],
    };
  }
  const { canonical } = apart;
  const chain = await storeBlocks(context, apart.blocks);
  return {
    ...shared,
    precision: describePrecision(canonical),
    opaque: false,
    layers: canonical.cores.length,
    hiddenSize: apart.blocks[0]!.parts[0]!.outputs[0]!.width,
    vocabSize: canonical.program.width(canonical.logits),
    contextLength: smallest(facts.contextLength, canonical.tableRows),
    chain,
    recognised: describeFindings(canonical),
    ...(canonical.oneTokenAtATime ? { oneTokenAtATime: true } : {}),
    warnings: canonical.oneTokenAtATime ? [...warnings, ONE_TOKEN_AT_A_TIME] : warnings,
  };
}

/** A graph is followed as far as sequences go: what it does beyond the context asked for does not matter. */
function withContext(facts: SourceFacts, context: number | undefined): SourceFacts {
  if (context === undefined) return facts;
  const most = facts.contextLength ?? Infinity;
  if (context < SHORTEST_CONTEXT || context > most)
    throw new BlockllmError("usage", `a context of ${context} tokens, for a model that has ${most}`, {
      hint: `give at least ${SHORTEST_CONTEXT} and at most what the model has, or leave it out`,
    });
  return { ...facts, contextLength: context };
}

const ONE_TOKEN_AT_A_TIME =
  "the file hides nothing between the tokens of one call, so it was made to be fed one at a time; its blocks are causal and need not be";

function withAdapter(model: OnnxModel, source: SourceModel, wanted: string | undefined): OnnxModel {
  const path = chooseAdapter(model, source, wanted);
  return path === null ? model : bindAdapter(model, readAdapter(path), path);
}

function chooseName(source: SourceModel, { name, as }: AddModelOptions): string {
  const stem = basename(source.graph, extname(source.graph));
  const fallback = ["model", "decoder_model_merged", "decoder_with_past_model"].includes(stem)
    ? basename(source.folder)
    : stem;
  const base = name ?? fallback;
  return canonicalModelName(as === undefined ? base : `${base.split(":")[0]}:${as}`);
}

function smallest(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}

function vocabularyOf(outputs: { name: string; dims: (number | string | null)[] | null }[], logits: string): number {
  const width = outputs.find(({ name }) => name === logits)?.dims?.at(-1);
  if (typeof width === "number") return width;
  throw new BlockllmError("model_unsupported", `${logits}: the graph does not say how large its vocabulary is`, {
    hint: "export the model again with static vocabulary size",
  });
}

/** Layers by the numbers in the names of what they keep, where all have one. */
function layersHolding(past: OpaqueSpec["past"]): number {
  const numbers = past.map(({ input }) => /\d+/.exec(input)?.[0]);
  return numbers.includes(undefined) ? layersOf(past) : new Set(numbers).size;
}

function sourceBytes(source: SourceModel, model: OnnxModel): number {
  const external = new Map<string, number>();
  for (const { data } of model.graph.initializers.values())
    if (data.kind === "file" && data.path !== source.graph) external.set(data.path, statSync(data.path).size);
  return statSync(source.graph).size + Array.from(external.values()).reduce((sum, size) => sum + size, 0);
}
