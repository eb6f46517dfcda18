import { createWriteStream, existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";

import type { LowRankFactors } from "../blocks/adapter.ts";
import type { Digest, RotarySpec, TensorEntry } from "../blocks/block.ts";
import type { OnnxModel, TensorInfo } from "../onnx/model.ts";
import { readGraphAlone } from "../onnx/read-model.ts";
import { writeModel } from "../onnx/write-model.ts";
import type { Repository } from "../store/repository.ts";
import { BlockllmError } from "../support/errors.ts";
import { makeFolder } from "../support/make-folder.ts";
import type { BlockChain, Chain } from "./chain.ts";
import { ExportGraph } from "./export-graph.ts";
import { attachFactors, type AttachedFactors } from "./attach-factors.ts";
import { resolveChain } from "./resolve-chain.ts";
import { rotaryRows } from "./rotary-rows.ts";

export interface ExportedModel {
  model: string;
  folder: string;
  /** model.onnx and its data. */
  bytes: number;
  files: string[];
}

/**
 * Writes a model back as a folder that ONNX Runtime and its callers run: model.onnx, model.onnx.data and the files
 * that came with it. Blocks are joined as they are stored, so an exact chain gives the same logits. The folder appears
 * whole or not at all.
 */
export async function exportModel(
  repository: Repository,
  name: string,
  folder: string,
  options: { signal?: AbortSignal } = {},
): Promise<ExportedModel> {
  const target = resolve(folder);
  refuseTaken(target, folder);
  const chain = await resolveChain(repository, name);
  const model = await joinChain(repository, chain);
  await makeFolder(dirname(target));
  const unfinished = `${target}.part-${process.pid}`;
  await mkdir(unfinished);
  try {
    const bytes = await writeFolder(repository, { chain, model, folder: unfinished }, options);
    if (existsSync(target)) await rm(target, { recursive: true });
    await rename(unfinished, target);
    return { model: chain.name, folder: target, bytes, files: readdirSync(target).toSorted() };
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

function refuseTaken(target: string, given: string): void {
  if (given === "")
    throw new BlockllmError("usage", "the folder to write to has no name", {
      hint: "give a folder that does not exist yet",
    });
  if (!existsSync(target)) return;
  const reason = !statSync(target).isDirectory() ? "is a file" : readdirSync(target).length > 0 ? "is not empty" : null;
  if (reason !== null)
    throw new BlockllmError("usage", `${given} ${reason}`, { hint: "give a folder that does not exist yet" });
}

async function joinChain(repository: Repository, chain: Chain): Promise<OnnxModel> {
  const read = async (graph: Digest): Promise<OnnxModel> => await readGraphAlone(repository.blobs.path(graph));
  if (chain.kind === "opaque") return await read(chain.part.graph);
  return await new ExportGraph(async (rotary) => await rotaryTables(repository, chain, rotary)).join(
    chain,
    async (part) =>
      attachFactors(
        await read(part.graph),
        part.factors.map((factors) => placeFactors(repository, factors)),
      ),
  );
}

function placeFactors(repository: Repository, { weight, down, up, scale }: LowRankFactors): AttachedFactors {
  return { weight, down: placeTensor(repository, down), up: placeTensor(repository, up), scale };
}

function placeTensor(repository: Repository, { digest, dtype, dims, bytes }: TensorEntry): TensorInfo {
  const data = { kind: "file" as const, path: repository.blobs.path(digest), offset: 0, length: bytes };
  return { name: "", dtype, dims, data };
}

/** Rows an exported table gets where neither the file nor its configuration limits the context. */
const DEFAULT_POSITIONS = 4096;

async function rotaryTables(
  repository: Repository,
  { document }: BlockChain,
  rotary: RotarySpec,
): Promise<{ cos: TensorInfo; sin: TensorInfo }> {
  if (rotary.frequencies.kind === "table") {
    const { cos, sin } = rotary.frequencies;
    return { cos: placeTensor(repository, cos), sin: placeTensor(repository, sin) };
  }
  const positions = Array.from({ length: document.contextLength ?? DEFAULT_POSITIONS }, (_, position) => position);
  const { cos, sin } = rotaryRows(rotary, positions, null);
  const info = (table: Float32Array): TensorInfo => ({
    name: "",
    dtype: "float32",
    dims: [positions.length, rotary.dim / 2],
    data: { kind: "bytes", bytes: new Uint8Array(table.buffer) },
  });
  return { cos: info(cos), sin: info(sin) };
}

interface Folder {
  chain: Chain;
  model: OnnxModel;
  folder: string;
}

const DATA_FILE = "model.onnx.data";

/** Every stored tensor goes once into the data file, verified on the way, aligned so that it can be mapped. */
async function writeFolder(
  repository: Repository,
  { chain, model, folder }: Folder,
  { signal }: { signal?: AbortSignal },
): Promise<number> {
  const placed = new Map<string, { digest: Digest; offset: number; length: number }>();
  let end = 0;
  for (const tensor of model.graph.initializers.values()) {
    const digest = storedDigest(tensor);
    if (digest === null || placed.has(digest) || tensor.data.kind !== "file") continue;
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    placed.set(digest, { digest, offset, length: tensor.data.length });
    end = offset + tensor.data.length;
  }
  if (placed.size > 0)
    await pipeline(
      dataChunks(repository, [...placed.values()], signal),
      createWriteStream(join(folder, DATA_FILE)),
      ...(signal === undefined ? [] : [{ signal }]),
    );
  const graph = writeModel(model, (tensor) => {
    const at = placed.get(storedDigest(tensor) ?? "");
    return at === undefined ? null : { location: DATA_FILE, offset: at.offset, length: at.length };
  });
  await writeFile(join(folder, "model.onnx"), graph);
  for (const { name, digest, bytes } of chain.document.files)
    await writeFile(join(folder, name), await repository.blobs.read(digest, bytes));
  return graph.length + end;
}

/** ONNX asks for offsets that can be mapped: 4096 is the page size of most systems. */
const ALIGNMENT = 4096;

/** A tensor that is a blob of the repository: graphs name it by the 64 characters of its digest. */
function storedDigest({ data }: TensorInfo): Digest | null {
  const hex = data.kind === "file" ? /([0-9a-f]{64})$/.exec(data.path)?.[1] : undefined;
  return hex === undefined ? null : `sha256:${hex}`;
}

async function* dataChunks(
  repository: Repository,
  tensors: { digest: Digest; offset: number }[],
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let written = 0;
  for (const { digest, offset } of tensors) {
    if (offset > written) yield new Uint8Array(offset - written);
    written = offset;
    for await (const chunk of repository.blobs.stream(digest, signal)) {
      written += chunk.length;
      yield chunk;
    }
  }
}
