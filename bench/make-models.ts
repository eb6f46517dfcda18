import { copyFile, mkdir, open, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { TensorInfo } from "../src/onnx/model.ts";
import { storedBytes, tensorBytes } from "../src/onnx/tensor-data.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { adaptedLinears, layerLinears, modelGraph, weightShapes, type Shapes } from "./model-graph.ts";
import { factorWeights, linearWeights, type Precision, type WeightShape } from "./model-linear.ts";
import { addLowRank, valuesOf, writeAll } from "./weight-values.ts";

const DATA_FILE = "model.onnx.data";

export interface GeneratedModel {
  name: string;
  folder: string;
  graph: string;
  weights: TensorInfo[];
  /** Of the weights. */
  bytes: number;
}

/** What a fine-tune of the base changed. The head is tied: who trains it trains the embedding. */
export type Tenant = "base" | "lora" | "last-layers" | "head" | "full";

/** One of each kind that the mix of a company has, in the proportions of the goals. */
export const EIGHT_TENANTS: Tenant[] = ["base", "lora", "lora", "lora", "last-layers", "last-layers", "head", "full"];

const LAST_LAYERS = 3;

export interface MadeModels {
  shapes: Shapes;
  tenants: readonly Tenant[];
  /** fp32 if not given. */
  precision?: Precision;
}

/**
 * Fine-tunes of one base that never was trained. Every model is a full copy on disk, as customers bring them. LoRAs are
 * merged in float32; beside quantised weights their factors stay in the graph, in float32, as training leaves them: merged
 * and quantised again, nothing of the base would be left. Throws before writing where the disk is too small for them and
 * for their repository.
 */
export async function makeModels(
  root: string,
  { shapes, tenants, precision = "fp32" }: MadeModels,
): Promise<GeneratedModel[]> {
  const shared = placeWeights(weightShapes(shapes, precision));
  const bytes = endOf(shared);
  await checkSpace(root, bytes * (tenants.length + 2));
  const models: GeneratedModel[] = [];
  for (const [index, tenant] of tenants.entries()) {
    const name = `tenant-${index}`;
    const folder = join(root, name);
    await mkdir(folder, { recursive: true });
    const data = join(folder, DATA_FILE);
    const first = models[0];
    if (first) await copyFile(join(first.folder, DATA_FILE), data);
    const factors = tenant === "lora" && precision !== "fp32";
    const placed = factors ? [...withoutPacking(shared, shapes, precision), ...placeFactors(shapes, bytes)] : shared;
    const own = first ? placed.filter(({ shape }) => changes({ tenant, precision }, shape, shapes)) : placed;
    await fillWeights(data, own, { shapes, tenant, name });
    const weights = placed.map(({ shape, offset }) => tensorInfo(shape, data, offset));
    const graph = join(folder, "model.onnx");
    await writeFile(graph, writeModel(modelGraph(shapes, weights, { precision, factors }), placement));
    await writeFile(join(folder, "genai_config.json"), JSON.stringify(genaiConfig(shapes), null, 2));
    models.push({ name, folder, graph, weights, bytes: endOf(placed) });
  }
  return models;
}

interface Placed {
  shape: WeightShape;
  offset: number;
}

function placeWeights(shapes: WeightShape[], start = 0): Placed[] {
  let end = start;
  return shapes.map((shape) => {
    const offset = end;
    end += byteLength(shape);
    return { shape, offset };
  });
}

function placeFactors(shapes: Shapes, start: number): Placed[] {
  return placeWeights(adaptedLinears(shapes).flatMap(factorWeights), start);
}

/** Quantised weights begin with the outputs, so q, k and v lie one after the other in what is packed of them. */
function withoutPacking(placed: Placed[], shapes: Shapes, precision: Precision): Placed[] {
  const packedNames = new Map(
    Array.from({ length: shapes.layers }, (_, layer) => layerLinears(shapes, layer)).flatMap(({ qkv, q, k, v }) => {
      const parts = [q, k, v].map((linear) => linearWeights(linear, precision));
      return linearWeights(qkv, precision).map(({ name }, at) => [name, parts.map((part) => part[at]!)] as const);
    }),
  );
  return placed.flatMap((one) => {
    const parts = packedNames.get(one.shape.name);
    return parts ? placeWeights(parts, one.offset) : [one];
  });
}

function endOf(placed: Placed[]): number {
  return Math.max(...placed.map(({ shape, offset }) => offset + byteLength(shape)));
}

function byteLength({ dtype, dims }: WeightShape): number {
  return tensorBytes(dtype, dims);
}

function tensorInfo(shape: WeightShape, path: string, offset: number): TensorInfo {
  const data = { kind: "file", path, offset, length: byteLength(shape) } as const;
  return { name: shape.name, dtype: shape.dtype, dims: shape.dims, data };
}

function placement(tensor: TensorInfo): { location: string; offset: number; length: number } | null {
  const { data } = tensor;
  return data.kind === "file" ? { location: DATA_FILE, offset: data.offset, length: storedBytes(tensor) } : null;
}

async function fillWeights(
  path: string,
  placed: Placed[],
  { shapes, tenant, name }: { shapes: Shapes; tenant: Tenant; name: string },
): Promise<void> {
  await using file = await open(path, tenant === "base" ? "w" : "r+");
  for (const { shape, offset } of placed) {
    const isFactor = shape.name.includes(".lora_");
    const owner = tenant === "base" || (tenant === "lora" && !isFactor) ? "base" : name;
    const values = valuesOf(shape, { width: shapes.headSize / 2, seed: `${owner} ${shape.name}` });
    if (tenant === "lora" && !isFactor)
      addLowRank(values as Float32Array, { dims: shape.dims as [number, number], seed: `${name} ${shape.name}` });
    await writeAll(file, values, offset);
  }
}

function changes(
  { tenant, precision }: { tenant: Tenant; precision: Precision },
  { name, layer, fill }: WeightShape,
  { layers }: Shapes,
): boolean {
  if (tenant === "lora" && precision !== "fp32") return name.includes(".lora_");
  if (tenant === "base" || !["random", "quantised", "scales"].includes(fill)) return false;
  if (tenant === "full") return true;
  if (tenant === "head") return layer === null;
  return layer !== null && (tenant === "lora" || layer >= layers - LAST_LAYERS);
}

async function checkSpace(root: string, needed: number): Promise<void> {
  await mkdir(root, { recursive: true });
  const { bavail, bsize } = await statfs(root);
  if (bavail * bsize < needed) {
    throw new Error(`${root} has ${gigabytes(bavail * bsize)} free, ${gigabytes(needed)} are needed; choose --folder`);
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** No token ends a sequence and there is no tokenizer: only shapes matter here. */
function genaiConfig(shapes: Shapes): object {
  return {
    model: {
      type: "llama",
      context_length: shapes.context,
      vocab_size: shapes.vocabulary,
      bos_token_id: 1,
      eos_token_id: 2,
      decoder: {
        filename: "model.onnx",
        head_size: shapes.headSize,
        hidden_size: shapes.hidden,
        num_attention_heads: shapes.heads,
        num_key_value_heads: shapes.keyValueHeads,
        num_hidden_layers: shapes.layers,
        inputs: {
          input_ids: "input_ids",
          attention_mask: "attention_mask",
          past_key_names: "past_key_values.%d.key",
          past_value_names: "past_key_values.%d.value",
        },
        outputs: { logits: "logits", present_key_names: "present.%d.key", present_value_names: "present.%d.value" },
      },
    },
  };
}
