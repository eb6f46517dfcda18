import { basename } from "node:path";

import type { AdapterEntry } from "../blocks/adapter.ts";
import type { BlockPart, Digest } from "../blocks/block.ts";
import { digestHex } from "../fingerprint/digest.ts";
import type { TensorInfo } from "../onnx/model.ts";
import { readGraphAlone } from "../onnx/read-model.ts";
import { BlockllmError } from "../support/errors.ts";
import type { Descriptor } from "./descriptor.ts";
import { adapterReferences, blockReferences } from "./references.ts";
import type { ModelEntry, Repository } from "./repository.ts";
import { residualsAmong } from "./stored-residual.ts";

/**
 * What is wrong between a model's documents, when every blob they are made of is intact: chain, blocks, graphs and
 * tensors must name each other, and the manifest must list them all, or a copy of the model would lack some.
 */
export async function checkModel(repository: Repository, entry: ModelEntry): Promise<BlockllmError[]> {
  const problems: BlockllmError[] = [];
  await collect(problems, async () => {
    const { document, manifest } = await repository.readModelEntry(entry);
    const listed = new Map(manifest.layers.map((layer) => [layer.digest, layer.size]));
    for (const { tensor, base, bytes } of residualsAmong(manifest.layers)) {
      if (listed.get(base) !== bytes) throw invalid(`${tensor} is based on ${base}, which the manifest does not list`);
      listed.set(tensor, bytes);
    }
    for (const file of document.files) demandListed({ ...file, size: file.bytes }, `file ${file.name}`, listed);
    const uses = document.chain.flatMap((link) => [link, ...(link.replaces?.kept ? [link.replaces] : [])]);
    for (const digest of new Set(uses.map((use) => use.digest))) {
      await collect(problems, () => checkBlock(repository, digest, listed));
    }
    for (const { digest, adapter } of uses) {
      if (adapter) await collect(problems, () => checkAdapter(repository, { digest, adapter }, listed));
    }
  });
  return problems;
}

async function checkBlock(repository: Repository, digest: Digest, listed: Map<Digest, number>): Promise<void> {
  const what = `block ${digest}`;
  demandListed({ digest, size: await repository.blobs.size(digest) }, what, listed);
  const block = await repository.readBlock(digest);
  for (const reference of blockReferences(block)) demandListed(reference, what, listed);
  for (const part of block.parts) await checkGraph(repository, part, what);
}

/** Every factor must be listed, and fit a projection that the block has. */
async function checkAdapter(
  repository: Repository,
  { digest, adapter }: { digest: Digest; adapter: AdapterEntry },
  listed: Map<Digest, number>,
): Promise<void> {
  const what = `adapter ${adapter.digest}`;
  demandListed({ digest: adapter.digest, size: await repository.blobs.size(adapter.digest) }, what, listed);
  const document = await repository.readAdapter(adapter.digest);
  for (const reference of adapterReferences(document)) demandListed(reference, what, listed);
  const block = await repository.readBlock(digest);
  for (const { role, factors } of document.parts) {
    const tensors = block.parts.find((part) => part.role === role)?.tensors ?? [];
    for (const { weight } of factors) {
      if (!tensors.some(({ name }) => name === weight))
        throw invalid(`${what} adds to ${weight} (${role}), which block ${digest} does not have`);
    }
  }
}

/** The external data of a graph must be the tensors that the block lists for it, whole and from their first byte. */
async function checkGraph(repository: Repository, part: BlockPart, what: string): Promise<void> {
  const path = repository.blobs.path(part.graph);
  const { graph } = await readGraphAlone(path);
  const listed = new Map(part.tensors.map((tensor) => [digestHex(tensor.digest), tensor.bytes]));
  for (const tensor of graph.initializers.values()) {
    const location = externalLocation(tensor, path);
    if (location === null) continue;
    if (listed.get(location.file) !== location.length || location.offset !== 0) {
      throw invalid(
        `${what}: graph ${part.graph} takes ${tensor.name} from ${location.file}, which the block does not list so`,
      );
    }
  }
}

function externalLocation({ data }: TensorInfo, graphPath: string) {
  if (data.kind === "bytes" || basename(data.path) === basename(graphPath)) return null;
  return { file: basename(data.path), offset: data.offset, length: data.length };
}

function demandListed(
  { digest, size }: Pick<Descriptor, "digest" | "size">,
  what: string,
  listed: Map<Digest, number>,
): void {
  const found = listed.get(digest);
  if (found === undefined) throw invalid(`${what} needs ${digest}, which the manifest does not list`);
  if (found !== size) throw invalid(`${what} needs ${size} bytes of ${digest}; the manifest says ${found}`);
}

function invalid(message: string): BlockllmError {
  return new BlockllmError("repository_invalid", message, { hint: "split the model again" });
}

async function collect(problems: BlockllmError[], work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BlockllmError)) throw error;
    problems.push(error);
  }
}
