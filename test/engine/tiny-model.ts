import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import proto from "onnx-proto";
import type { AdapterEntry, AdapterPart, LowRankFactors } from "../../src/blocks/adapter.ts";
import type { BlockDocument, CoreSpec, Port, PortName, RotarySpec, TensorEntry } from "../../src/blocks/block.ts";
import type { ChainEntry, ModelDocument } from "../../src/store/model-document.ts";
import type { Repository } from "../../src/store/repository.ts";

/** A Llama-like network with random weights: as canonical blocks in a repository and as one whole ONNX file. */
export interface TinyShape {
  hidden: number;
  heads: number;
  kvHeads: number;
  headSize: number;
  mlp: number;
  vocab: number;
  contextLength: number;
  core: Partial<CoreSpec>;
}

export interface TinyModel {
  name: string;
  /** One seed per layer: equal seeds are equal weights, so models share what they seed alike. */
  layers: number[];
  embeddingSeed?: number;
  endTokens?: number[];
  /** Low-rank factors on these projections of every layer, "part/weight"; equal seeds are equal factors in equal places. */
  adapter?: {
    seed: number;
    rank: number;
    weights: ("in/q0" | "in/v" | "out/projected" | "main/down")[];
    spread?: number;
  };
  /** Weights that are others in every layer and in the head, "part/weight": equal seeds are equal weights in equal places. */
  changed?: { seed: number; weights: string[] };
  shape?: Partial<TinyShape>;
  /** false, for whole models only: queries and keys are not rotated, and no cos and sin are fed. */
  rotary?: boolean;
}

export const TINY: TinyShape = {
  hidden: 32,
  heads: 4,
  kvHeads: 2,
  headSize: 8,
  mlp: 48,
  vocab: 96,
  contextLength: 256,
  core: {},
};

const THETA = 10_000;
const EPSILON = 1e-5;

export function coreOf(shape: TinyShape): CoreSpec {
  const { heads, kvHeads, headSize } = shape;
  const scale = Math.fround(1 / Math.sqrt(headSize));
  const plain = { window: null, softcap: null, alibiSlopes: null, sinks: null };
  return { heads, kvHeads, headSize, valueHeadSize: headSize, scale, ...plain, ...shape.core };
}

export async function putTinyModel(repository: Repository, model: TinyModel): Promise<ModelDocument> {
  const shape = { ...TINY, ...model.shape };
  const seed = model.embeddingSeed ?? 1;
  const chain: ChainEntry[] = [];
  const put = async (kind: BlockDocument["kind"], layer: number | null, block: BlockDocument): Promise<void> => {
    const bytes = block.parts.reduce(
      (sum, part) => sum + part.graphBytes + part.tensors.reduce((s, t) => s + t.bytes, 0),
      0,
    );
    const entry = { kind, layer, digest: (await repository.putBlock(block)).digest, bytes };
    const adapter =
      layer === null || !model.adapter
        ? null
        : await putAdapter(repository, block, {
            ...model.adapter,
            seed: model.adapter.seed + layer * 1000,
          });
    chain.push(adapter === null ? entry : { ...entry, adapter });
  };
  await put("embedding", null, await storeBlock(repository, "embedding", [embeddingPart(shape, seed)], shape));
  for (const [layer, layerSeed] of model.layers.entries()) {
    const attention = [attentionInPart(shape, layerSeed), attentionOutPart(shape, layerSeed)];
    const changed = (part: Part) => changeWeights(part, model, layer);
    await put("attention", layer, await storeBlock(repository, "attention", attention.map(changed), shape));
    await put("mlp", layer, await storeBlock(repository, "mlp", [changed(mlpPart(shape, layerSeed))], shape));
  }
  const head = changeWeights(headPart(shape, seed), model, -1);
  await put("head", null, await storeBlock(repository, "head", [head], shape));
  const document: ModelDocument = {
    version: 1,
    exporter: "test",
    family: "tiny",
    precision: "fp32",
    opaque: false,
    layers: model.layers.length,
    hiddenSize: shape.hidden,
    vocabSize: shape.vocab,
    contextLength: shape.contextLength,
    endTokens: model.endTokens ?? [],
    beginToken: null,
    chain,
    files: [],
    recognised: [],
    warnings: [],
  };
  await repository.putModel(model.name, document);
  return document;
}

function changeWeights(part: Part, { changed }: TinyModel, layer: number): Part {
  for (const [name, { dims, values }] of part.weights) {
    if (!changed?.weights.includes(`${part.role}/${name.replace(".weight", "")}`)) continue;
    const others = randomValues(values.length, changed.seed + layer * 1000 + name.length / 100, 0.2);
    part.weights.set(name, { dims, values: dims.length === 1 ? others.map((value) => 1 + value) : others });
  }
  return part;
}

async function putAdapter(
  repository: Repository,
  block: BlockDocument,
  { seed, rank, weights, spread = 0.3 }: NonNullable<TinyModel["adapter"]>,
): Promise<AdapterEntry | null> {
  const store = async (name: string, dims: [number, number], ownSeed: number): Promise<TensorEntry> => {
    const values = randomValues(dims[0] * dims[1], ownSeed, spread);
    const { digest, size } = await repository.blobs.put(bytesOf(values), "application/vnd.blockllm.tensor.v1");
    return { name, digest, dtype: "float32", dims, bytes: size };
  };
  const parts: AdapterPart[] = [];
  for (const { role, tensors } of block.parts) {
    const adapted = tensors.filter(({ name }) => weights.some((weight) => `${weight}.weight` === `${role}/${name}`));
    const factors: LowRankFactors[] = [];
    for (const [at, { name, dims }] of adapted.entries())
      factors.push({
        weight: name,
        down: await store("down", [dims[0]!, rank], seed + at + 0.01),
        up: await store("up", [rank, dims[1]!], seed + at + 0.02),
        scale: 0.5,
      });
    if (factors.length > 0) parts.push({ role, factors });
  }
  if (parts.length === 0) return null;
  const [stored] = await repository.putAdapters([{ version: 1, parts }]);
  const bytes = parts.flatMap(({ factors }) => factors).reduce((sum, { down, up }) => sum + down.bytes + up.bytes, 0);
  return { digest: stored!.digest, bytes };
}

/** The same network as exporters write it: one graph with `past.N.key|value` in and `present.N.key|value` out. */
export async function writeWholeModel(folder: string, model: TinyModel): Promise<string> {
  const shape = { ...TINY, ...model.shape };
  const seed = model.embeddingSeed ?? 1;
  const { kvHeads, headSize } = shape;
  const graph = new GraphBuilder();
  graph.input("ids", INT64, [1, "S"]);
  const rotary = model.rotary !== false;
  for (const rows of rotary ? ["cos", "sin"] : []) graph.input(rows, FLOAT, [1, "S", headSize / 2]);
  let hidden = graph.splice(embeddingPart(shape, seed), "embedding.", { ids: "ids" })["hidden_out"]!;
  for (const [layer, layerSeed] of model.layers.entries()) {
    const at = `${layer}.`;
    const { q, k, v } = graph.splice(attentionInPart(shape, layerSeed, rotary), `${at}in.`, {
      hidden,
      cos: "cos",
      sin: "sin",
    });
    const past = ["key", "value"].map((half) =>
      graph.input(`past.${layer}.${half}`, FLOAT, [1, kvHeads, "P", headSize]),
    );
    const present = ["key", "value"].map((half) =>
      graph.output(`present.${layer}.${half}`, [1, kvHeads, "T", headSize]),
    );
    graph.node("Attention", [q!, k!, v!, "", ...past], [`${at}o`, ...present], coreAttributes(coreOf(shape)));
    hidden = graph.splice(attentionOutPart(shape, layerSeed), `${at}out.`, { hidden, o: `${at}o` })["hidden_out"]!;
    hidden = graph.splice(mlpPart(shape, layerSeed), `${at}mlp.`, { hidden })["hidden_out"]!;
  }
  const { logits } = graph.splice(headPart(shape, seed), "head.", { hidden });
  graph.node("Identity", [logits!], [graph.output("logits", [1, "S", shape.vocab])]);
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${model.name}.onnx`);
  await writeFile(path, graph.encode());
  return path;
}

// --- the parts -------------------------------------------------------------------------------------------------------

function embeddingPart({ hidden, vocab }: TinyShape, seed: number): Part {
  const part = newPart("main", ["ids"], [["hidden_out", hidden]]);
  part.weight("table", [vocab, hidden], { seed, spread: 1 });
  part.node("Gather", ["table", "ids"], ["hidden_out"]);
  return part;
}

function attentionInPart(shape: TinyShape, seed: number, rotary = true): Part {
  const { hidden, heads, kvHeads, headSize } = shape;
  const half = headSize / 2;
  const outputs: [PortName, number][] = [
    ["q", heads * headSize],
    ["k", kvHeads * headSize],
    ["v", kvHeads * headSize],
  ];
  const part = newPart(
    "in",
    [
      ["hidden", hidden],
      ["cos", half],
      ["sin", half],
    ],
    outputs,
  );
  part.norm("hidden", "normal", { width: hidden, seed: seed + 0.1 });
  part.linear("normal", "q0", { from: hidden, to: heads * headSize, seed: seed + 0.2 });
  part.linear("normal", "k0", { from: hidden, to: kvHeads * headSize, seed: seed + 0.3 });
  part.linear("normal", "v", { from: hidden, to: kvHeads * headSize, seed: seed + 0.4 });
  if (!rotary) {
    part.node("Identity", ["q0"], ["q"]);
    part.node("Identity", ["k0"], ["k"]);
    return part;
  }
  part.node("RotaryEmbedding", ["q0", "cos", "sin"], ["q"], { num_heads: heads });
  part.node("RotaryEmbedding", ["k0", "cos", "sin"], ["k"], { num_heads: kvHeads });
  return part;
}

function attentionOutPart({ hidden, heads, headSize }: TinyShape, seed: number): Part {
  const part = newPart(
    "out",
    [
      ["hidden", hidden],
      ["o", heads * headSize],
    ],
    [["hidden_out", hidden]],
  );
  part.linear("o", "projected", { from: heads * headSize, to: hidden, seed: seed + 0.5 });
  part.node("Add", ["hidden", "projected"], ["hidden_out"]);
  return part;
}

function mlpPart({ hidden, mlp }: TinyShape, seed: number): Part {
  const part = newPart("main", [["hidden", hidden]], [["hidden_out", hidden]]);
  part.norm("hidden", "normal", { width: hidden, seed: seed + 0.6 });
  part.linear("normal", "gate", { from: hidden, to: mlp, seed: seed + 0.7 });
  part.linear("normal", "up", { from: hidden, to: mlp, seed: seed + 0.8 });
  part.node("Sigmoid", ["gate"], ["squashed"]);
  part.node("Mul", ["gate", "squashed"], ["activated"]);
  part.node("Mul", ["activated", "up"], ["inner"]);
  part.linear("inner", "down", { from: mlp, to: hidden, seed: seed + 0.9 });
  part.node("Add", ["hidden", "down"], ["hidden_out"]);
  return part;
}

function headPart({ hidden, vocab }: TinyShape, seed: number): Part {
  const part = newPart("main", [["hidden", hidden]], [["logits", vocab]]);
  part.norm("hidden", "normal", { width: hidden, seed: 0.6 });
  part.weight("table", [vocab, hidden], { seed, spread: 1 });
  part.node("FusedMatMul", ["normal", "table"], ["logits"], { transB: 1 }, "com.microsoft");
  return part;
}

// --- building and storing --------------------------------------------------------------------------------------------

const { onnx } = proto;
const FLOAT = 1;
const INT64 = 7;
type Attributes = Record<string, number>;
type Dims = (number | string)[];

class Part {
  readonly role: "main" | "in" | "out";
  readonly inputs: Port[];
  readonly outputs: Port[];
  readonly nodes: { opType: string; domain: string; input: string[]; output: string[]; attributes: Attributes }[] = [];
  readonly weights = new Map<string, { dims: number[]; values: Float32Array }>();

  constructor(role: "main" | "in" | "out", inputs: Port[], outputs: Port[]) {
    this.role = role;
    this.inputs = inputs;
    this.outputs = outputs;
  }

  node(opType: string, input: string[], output: string[], attributes: Attributes = {}, domain = ""): void {
    this.nodes.push({ opType, domain, input, output, attributes });
  }

  weight(name: string, dims: number[], { seed, spread }: { seed: number; spread: number }): void {
    this.weights.set(name, {
      dims,
      values: randomValues(
        dims.reduce((a, b) => a * b, 1),
        seed,
        spread,
      ),
    });
  }

  linear(from: string, to: string, size: { from: number; to: number; seed: number }): void {
    this.weight(`${to}.weight`, [size.from, size.to], { seed: size.seed, spread: 2 / Math.sqrt(size.from) });
    this.node("MatMul", [from, `${to}.weight`], [to]);
  }

  norm(from: string, to: string, { width, seed }: { width: number; seed: number }): void {
    const values = randomValues(width, seed, 0.4).map((value) => 1 + value);
    this.weights.set(`${to}.weight`, { dims: [width], values });
    this.node("RMSNormalization", [from, `${to}.weight`], [to], { epsilon: EPSILON, axis: -1 });
  }
}

type PortGiven = PortName | [PortName, number];

function newPart(role: Part["role"], inputs: PortGiven[], outputs: PortGiven[]): Part {
  return new Part(role, inputs.map(port), outputs.map(port));
}

function port(given: PortGiven): Port {
  return typeof given === "string" ? { name: given, width: 1 } : { name: given[0], width: given[1] };
}

async function storeBlock(
  repository: Repository,
  kind: BlockDocument["kind"],
  parts: Part[],
  shape: TinyShape,
): Promise<BlockDocument> {
  const rotary: RotarySpec = {
    dim: shape.headSize,
    interleaved: false,
    frequencies: { kind: "theta", theta: THETA },
    scale: 1,
  };
  const isAttention = kind === "attention";
  return {
    version: 1,
    kind,
    parts: await Promise.all(parts.map((part) => storePart(repository, part))),
    core: isAttention ? coreOf(shape) : null,
    rotary: isAttention ? rotary : null,
    opaque: null,
  };
}

async function storePart(repository: Repository, part: Part): Promise<BlockDocument["parts"][number]> {
  const tensors: TensorEntry[] = [];
  for (const [name, { dims, values }] of part.weights) {
    const { digest, size } = await repository.blobs.put(bytesOf(values), "application/vnd.blockllm.tensor.v1");
    tensors.push({ name, digest, dtype: "float32", dims, bytes: size });
  }
  const graph = new GraphBuilder();
  for (const { name, width } of part.inputs) {
    if (name === "ids" || name === "positions") graph.input(name, INT64, [1, "N"]);
    else graph.input(name, FLOAT, [1, "N", width]);
  }
  for (const { name, width } of part.outputs) graph.output(name, [1, "N", width]);
  for (const { opType, input, output, attributes, domain } of part.nodes)
    graph.node(opType, input, output, attributes, domain);
  for (const { name, digest, dims, bytes } of tensors) graph.external(name, dims, { location: digest.slice(7), bytes });
  const stored = await repository.blobs.put(graph.encode(), "application/vnd.blockllm.graph.v1+onnx");
  const { role, inputs, outputs } = part;
  return { role, graph: stored.digest, graphBytes: stored.size, inputs, outputs, tensors };
}

class GraphBuilder {
  readonly #graph = {
    name: "tiny",
    node: [] as object[],
    initializer: [] as object[],
    input: [] as object[],
    output: [] as object[],
  };

  input(name: string, type: number, dims: Dims): string {
    this.#graph.input.push(valueInfo(name, type, dims));
    return name;
  }

  output(name: string, dims: Dims): string {
    this.#graph.output.push(valueInfo(name, FLOAT, dims));
    return name;
  }

  node(opType: string, input: string[], output: string[], attributes: Attributes = {}, domain = ""): void {
    const attribute = Object.entries(attributes).map(([name, value]) =>
      Number.isInteger(value) && name !== "scale" && name !== "softcap"
        ? { name, type: 2, i: value }
        : { name, type: 1, f: value },
    );
    this.#graph.node.push({ opType, domain, input, output, attribute });
  }

  external(name: string, dims: number[], { location, bytes }: { location: string; bytes: number }): void {
    const externalData = Object.entries({ location, offset: "0", length: String(bytes) }).map(([key, value]) => ({
      key,
      value,
    }));
    this.#graph.initializer.push({ name, dims, dataType: FLOAT, dataLocation: 1, externalData });
  }

  /** Puts a part into this graph and gives the names of its outputs. */
  splice(part: Part, prefix: string, inputs: Record<string, string>): Record<string, string> {
    const rename = (name: string): string => inputs[name] ?? prefix + name;
    for (const [name, { dims, values }] of part.weights) {
      this.#graph.initializer.push({ name: prefix + name, dims, dataType: FLOAT, rawData: bytesOf(values) });
    }
    for (const { opType, input, output, attributes, domain } of part.nodes) {
      this.node(opType, input.map(rename), output.map(rename), attributes, domain);
    }
    return Object.fromEntries(part.outputs.map(({ name }) => [name, prefix + name]));
  }

  encode(): Uint8Array {
    const opsetImport = [
      { domain: "", version: 24 },
      { domain: "com.microsoft", version: 1 },
    ];
    return onnx.ModelProto.encode(
      onnx.ModelProto.fromObject({ irVersion: 10, opsetImport, graph: this.#graph }),
    ).finish();
  }
}

function coreAttributes({ heads, kvHeads, scale, softcap }: CoreSpec): Attributes {
  return { q_num_heads: heads, kv_num_heads: kvHeads, is_causal: 1, scale, softcap: softcap ?? 0 };
}

function valueInfo(name: string, elemType: number, dims: Dims): object {
  const dim = dims.map((size) => (typeof size === "number" ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function randomValues(length: number, seed: number, spread: number): Float32Array {
  let state = Math.floor(seed * 1_000_003) >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  for (let skip = 0; skip < 8; skip++) next();
  return Float32Array.from({ length }, () => (next() - 0.5) * spread);
}
