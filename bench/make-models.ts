import { copyFile, mkdir, open, statfs, writeFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";

import type { TensorInfo } from "../src/onnx/model.ts";
import { storedBytes } from "../src/onnx/tensor-data.ts";
import { writeModel } from "../src/onnx/write-model.ts";
import { modelGraph, weightShapes, type Shapes, type WeightShape } from "./model-graph.ts";

const DATA_FILE = "model.onnx.data";
const FLOAT_BYTES = 4;
const ROTARY_BASE = 100_000;

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
const LORA_RANK = 8;

/**
 * Fine-tunes of one base that never was trained. Every model is a full copy on disk, as customers bring them; LoRAs are
 * merged. Throws before writing where the disk is too small for them and for their repository.
 */
export async function makeModels(
  root: string,
  { shapes, tenants }: { shapes: Shapes; tenants: readonly Tenant[] },
): Promise<GeneratedModel[]> {
  const placed = placeWeights(weightShapes(shapes));
  const bytes = placed.reduce((sum, { shape }) => sum + byteLength(shape), 0);
  await checkSpace(root, bytes * (tenants.length + 2));
  const models: GeneratedModel[] = [];
  for (const [index, tenant] of tenants.entries()) {
    const name = `tenant-${index}`;
    const folder = join(root, name);
    await mkdir(folder, { recursive: true });
    const data = join(folder, DATA_FILE);
    const first = models[0];
    if (first) await copyFile(join(first.folder, DATA_FILE), data);
    const own = first ? placed.filter(({ shape }) => changes(tenant, shape, shapes)) : placed;
    await fillWeights(data, own, { shapes, tenant, name });
    const weights = placed.map(({ shape, offset }) => tensorInfo(shape, data, offset));
    const graph = join(folder, "model.onnx");
    await writeFile(graph, writeModel(modelGraph(shapes, weights), placement));
    await writeFile(join(folder, "genai_config.json"), JSON.stringify(genaiConfig(shapes), null, 2));
    models.push({ name, folder, graph, weights, bytes });
  }
  return models;
}

interface Placed {
  shape: WeightShape;
  offset: number;
}

function placeWeights(shapes: WeightShape[]): Placed[] {
  let end = 0;
  return shapes.map((shape) => {
    const offset = end;
    end += byteLength(shape);
    return { shape, offset };
  });
}

function byteLength({ dims }: WeightShape): number {
  return dims.reduce((product, dim) => product * dim, FLOAT_BYTES);
}

function tensorInfo(shape: WeightShape, path: string, offset: number): TensorInfo {
  const data = { kind: "file", path, offset, length: byteLength(shape) } as const;
  return { name: shape.name, dtype: "float32", dims: shape.dims, data };
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
    const owner = tenant === "base" || tenant === "lora" ? "base" : name;
    const values = valuesOf(shape, shapes, seedOf(`${owner} ${shape.name}`));
    if (tenant === "lora") addLowRank(values, shape.dims as [number, number], seedOf(`${name} ${shape.name}`));
    await writeAll(file, values, offset);
  }
}

function changes(tenant: Tenant, { layer, fill }: WeightShape, { layers }: Shapes): boolean {
  if (tenant === "base" || fill !== "random") return false;
  if (tenant === "full") return true;
  if (tenant === "head") return layer === null;
  return layer !== null && (tenant === "lora" || layer >= layers - LAST_LAYERS);
}

/** values += down · up, about a tenth of their size. */
function addLowRank(values: Float32Array, [rows, columns]: [number, number], seed: number): void {
  const down = fillRandom(new Float32Array(rows * LORA_RANK), seed);
  const up = fillRandom(new Float32Array(LORA_RANK * columns), seed + 1);
  for (let row = 0; row < rows; row++) {
    const change = new Float64Array(columns);
    for (let rank = 0; rank < LORA_RANK; rank++) {
      const factor = down[row * LORA_RANK + rank]!;
      for (let column = 0; column < columns; column++) change[column]! += factor * up[rank * columns + column]!;
    }
    for (let column = 0; column < columns; column++) values[row * columns + column]! += change[column]!;
  }
}

function valuesOf({ dims, fill }: WeightShape, shapes: Shapes, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(dims.reduce((product, dim) => product * dim, 1));
  if (fill === "ones") return values.fill(1);
  if (fill === "random") return fillRandom(values, seed);
  const width = shapes.headSize / 2;
  return values.map((_, at) => {
    const angle = Math.floor(at / width) / ROTARY_BASE ** ((at % width) / width);
    return fill === "cos" ? Math.cos(angle) : Math.sin(angle);
  });
}

/** Uniform in ±0.05: after 30 layers the hidden state is no longer what the embedding gave, and nothing overflows. */
function fillRandom(values: Float32Array<ArrayBuffer>, seed: number): Float32Array<ArrayBuffer> {
  let state = seed;
  for (let at = 0; at < values.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[at] = (state / 2 ** 32 - 0.5) * 0.1;
  }
  return values;
}

function seedOf(text: string): number {
  let seed = 2166136261;
  for (const character of text) seed = Math.imul(seed ^ character.charCodeAt(0), 16777619) >>> 0;
  return seed;
}

async function writeAll(file: FileHandle, values: Float32Array<ArrayBuffer>, offset: number): Promise<void> {
  const bytes = new Uint8Array(values.buffer);
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }
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
