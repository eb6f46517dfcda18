import type { AdapterDocument } from "../blocks/adapter.ts";
import type { BlockDocument, BlockPart, CoreSpec, Digest, PortName } from "../blocks/block.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import type { ChainEntry, ModelDocument } from "../store/model-document.ts";
import { BlockllmError } from "../support/errors.ts";
import type { BlockChain, Chain, ChainPart, ChainStep, OpaqueChain } from "./chain.ts";

/** What a chain is made from. The repository is one; its blobs lie as files that ONNX Runtime can open. */
export interface BlockSource {
  readModel(name: string): Promise<{ name: string; document: ModelDocument }>;
  readBlock(digest: Digest): Promise<BlockDocument>;
  readAdapter(digest: Digest): Promise<AdapterDocument>;
  blobs: {
    path(digest: Digest): string;
    /** Does it lie there as a file? A tensor that does not may still be read: it is rebuilt. */
    has(digest: Digest): Promise<boolean>;
    /** Verified, as are the chunks once the last has come. */
    read(digest: Digest, size?: number): Promise<Uint8Array>;
    stream(digest: Digest): AsyncIterable<Uint8Array>;
  };
}

/** Reads a model's blocks and joins them. Errors: model_not_found, repository_invalid (naming both ports). */
export async function resolveChain(source: BlockSource, wanted: string): Promise<Chain> {
  const { name, document } = await source.readModel(wanted);
  const blocks = await Promise.all(document.chain.map((entry) => source.readBlock(entry.digest)));
  const adapters = await Promise.all(
    document.chain.map(async ({ adapter }) => (adapter ? source.readAdapter(adapter.digest) : null)),
  );
  if (document.opaque) return opaqueChain(name, document, blocks);

  const steps = document.chain.flatMap((entry, index) => blockSteps(entry, blocks[index]!, adapters[index]!));
  const chain: BlockChain = { ...chainHead(name, document), kind: "blocks", steps: numberCores(steps), cores: [] };
  for (const step of chain.steps) if (step.kind === "core") chain.cores.push(step.core);
  checkPorts(chain);
  checkFactors(chain);
  return chain;
}

function chainHead(name: string, document: ModelDocument): Pick<Chain, "name" | "key" | "document"> {
  return { name, key: `${name}@${digestDocument(document)}`, document };
}

function opaqueChain(name: string, document: ModelDocument, blocks: BlockDocument[]): OpaqueChain {
  const [block, ...rest] = blocks;
  const part = block?.parts[0];
  if (!block?.opaque || !part || rest.length > 0) throw invalid(name, "is opaque but has not exactly one opaque block");
  return {
    ...chainHead(name, document),
    kind: "opaque",
    part: { ...part, label: "opaque model", rotary: null, factors: [] },
    spec: block.opaque,
  };
}

function blockSteps(entry: ChainEntry, block: BlockDocument, adapter: AdapterDocument | null): ChainStep[] {
  const place = entry.layer === null ? block.kind : `${block.kind} of layer ${entry.layer}`;
  const steps = block.parts.map((part): ChainStep => ({
    kind: "part",
    part: chainPart(part, block, { place, adapter }),
  }));
  if (block.core) steps.splice(1, 0, { kind: "core", layer: 0, core: block.core });
  return steps;
}

function chainPart(
  part: BlockPart,
  block: BlockDocument,
  { place, adapter }: { place: string; adapter: AdapterDocument | null },
): ChainPart {
  const label = part.role === "main" ? place : `${place} (${part.role})`;
  const factors = adapter?.parts.find(({ role }) => role === part.role)?.factors ?? [];
  return { ...part, label, rotary: width(part.inputs, "cos") === null ? null : block.rotary, factors };
}

function numberCores(steps: ChainStep[]): ChainStep[] {
  let layer = 0;
  return steps.map((step) => (step.kind === "core" ? { ...step, layer: layer++ } : step));
}

/** What runs along the chain while it is checked: each value with its width and who made it. */
type Available = Map<PortName, { width: number; maker: string }>;

function checkPorts(chain: BlockChain): void {
  const available: Available = new Map([
    ["ids", { width: 1, maker: "the request" }],
    ["positions", { width: 1, maker: "the request" }],
  ]);
  for (const step of chain.steps) {
    if (step.kind === "core") passCore(chain, step, available);
    else passPart(chain, step.part, available);
  }
  const logits = available.get("logits");
  if (!logits) throw invalid(chain.name, "ends without logits");
  if (logits.width !== chain.document.vocabSize) {
    throw invalid(
      chain.name,
      `"${logits.maker}" gives ${logits.width} logits, but the vocabulary has ${chain.document.vocabSize}`,
    );
  }
}

function passPart(chain: BlockChain, part: ChainPart, available: Available): void {
  if (part.rotary) {
    for (const name of ["cos", "sin"] as const)
      available.set(name, { width: part.rotary.dim / 2, maker: `rotary of ${part.label}` });
  }
  for (const port of part.inputs) join(chain, { maker: part.label, ...port }, port.name, available);
  for (const name of ["cos", "sin", "q", "k", "v", "o"] as const) available.delete(name);
  for (const port of part.outputs) {
    available.set(port.name === "hidden_out" ? "hidden" : port.name, { width: port.width, maker: part.label });
  }
}

function passCore(chain: BlockChain, step: { layer: number; core: CoreSpec }, available: Available): void {
  const { heads, kvHeads, headSize, valueHeadSize } = step.core;
  const maker = `attention core ${step.layer}`;
  join(chain, { maker, width: heads * headSize }, "q", available);
  join(chain, { maker, width: kvHeads * headSize }, "k", available);
  join(chain, { maker, width: kvHeads * valueHeadSize }, "v", available);
  available.set("o", { width: heads * valueHeadSize, maker });
}

/** Factors that do not fit would be refused by ONNX Runtime in words that name neither model nor projection. */
function checkFactors({ name, steps }: BlockChain): void {
  for (const step of steps) {
    if (step.kind === "core") continue;
    const { label, tensors, factors } = step.part;
    for (const { weight, down, up } of factors) {
      const fits = down.dims.length === 2 && up.dims.length === 2 && down.dims[1] === up.dims[0];
      if (!fits || !tensors.some((tensor) => tensor.name === weight))
        throw invalid(
          name,
          `the adapter of "${label}" adds [${down.dims.join(", ")}]·[${up.dims.join(", ")}] to ${weight}, which does not fit`,
        );
    }
  }
}

function join(chain: BlockChain, taker: { maker: string; width: number }, name: PortName, available: Available): void {
  const given = available.get(name);
  if (!given) throw invalid(chain.name, `"${taker.maker}" takes ${name}, but nothing before it gives ${name}`);
  if (given.width !== taker.width) {
    throw invalid(
      chain.name,
      `"${taker.maker}" takes ${name} of width ${taker.width}, but "${given.maker}" gives width ${given.width}`,
    );
  }
}

function width(ports: BlockPart["inputs"], name: PortName): number | null {
  return ports.find((port) => port.name === name)?.width ?? null;
}

function invalid(name: string, problem: string): BlockllmError {
  return new BlockllmError("repository_invalid", `Model ${name}: ${problem}.`, { hint: "blockllm check" });
}
