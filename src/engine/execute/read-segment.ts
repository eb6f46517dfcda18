import { dirname } from "node:path";
import { attachFactors } from "../../chain/attach-factors.ts";
import { type ChainPart, storedGraph } from "../../chain/chain.ts";
import { cutPart } from "../../chain/cut-part.ts";
import { fuseParts } from "../../chain/fuse-parts.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import type { OnnxModel } from "../../onnx/model.ts";
import { readGraphAlone } from "../../onnx/read-model.ts";
import { withRebuiltWeights } from "./rebuilt-weights.ts";
import { stackFactors } from "./stack-factors.ts";

export interface SegmentModel {
  /** The segment as one graph. Where it is a single part that nothing is done to, that part itself. */
  model: OnnxModel;
  /** Its parts as they are stored, or the nodes of them that it runs. */
  plain: OnnxModel[];
  /** Where the weights that `model` names lie. */
  folder: string;
}

/** Joins a segment's parts and what adapters add to them. Weights stay on disk, but for those that lie there as residuals. */
export async function readSegment(segment: Segment, source: BlockSource): Promise<SegmentModel> {
  const plain = await Promise.all(segment.parts.map(async (part) => readPart(part, source)));
  const whole = await Promise.all(
    plain.map(async (part, at) => withRebuiltWeights(part, segment.parts[at]!, source.blobs)),
  );
  const parts = await Promise.all(whole.map(async (part, at) => withAdapters(part, { segment, at }, source)));
  const outputs = new Set<string>(segment.outputs.map(({ name }) => name));
  const model = parts.length === 1 ? parts[0]! : fuseParts(parts, (port) => outputs.has(port));
  return { model, plain, folder: dirname(source.blobs.path(storedGraph(segment.parts[0]!))) };
}

/** A part as it is stored, or the nodes of it that it runs. */
export async function readPart(part: ChainPart, source: BlockSource): Promise<OnnxModel> {
  const stored = await readGraphAlone(source.blobs.path(storedGraph(part)));
  return part.cut === undefined ? stored : cutPart(stored, part.cut.whole, part.cut).model;
}

async function withAdapters(
  part: OnnxModel,
  { segment, at }: { segment: Segment; at: number },
  source: BlockSource,
): Promise<OnnxModel> {
  const factors = segment.adapters.map((adapter) => adapter[at]!);
  return attachFactors(part, await stackFactors(factors, source.blobs));
}
