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

/**
 * Fine-tunes of one base that never was trained: `count` whole models of which the first `sharedLayers` layers,
 * embedding and head are equal and the rest is each one's own. Every model is a full copy on disk, as customers bring
 * them. Throws before writing where the disk is too small for them and for their repository.
 */
export async function makeModels(
  root: string,
  { shapes, count, sharedLayers }: { shapes: Shapes; count: number; sharedLayers: number },
): Promise<GeneratedModel[]> {
  const placed = placeWeights(weightShapes(shapes));
  const bytes = placed.reduce((sum, { shape }) => sum + byteLength(shape), 0);
  await checkSpace(root, bytes * (count + 2));
  const models: GeneratedModel[] = [];
  for (let tenant = 0; tenant < count; tenant++) {
    const name = `tenant-${tenant}`;
    const folder = join(root, name);
    await mkdir(folder, { recursive: true });
    const data = join(folder, DATA_FILE);
    const first = models[0];
    if (first) await copyFile(join(first.folder, DATA_FILE), data);
    const own = first ? placed.filter(({ shape }) => (shape.layer ?? 0) >= sharedLayers) : placed;
    await fillWeights(data, own, { shapes, tenant, sharedLayers });
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
  { shapes, tenant, sharedLayers }: { shapes: Shapes; tenant: number; sharedLayers: number },
): Promise<void> {
  await using file = await open(path, placed[0]!.offset === 0 ? "w" : "r+");
  for (const { shape, offset } of placed) {
    const owner = (shape.layer ?? 0) < sharedLayers ? "base" : `tenant ${tenant}`;
    await writeAll(file, valuesOf(shape, shapes, seedOf(`${owner} ${shape.name}`)), offset);
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
