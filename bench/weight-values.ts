import type { FileHandle } from "node:fs/promises";

import { floatToHalf, halfToFloat } from "../src/onnx/tensor-data.ts";
import { LORA_RANK, type WeightShape } from "./model-linear.ts";

const ROTARY_BASE = 100_000;
const LARGEST = 0.05;

/** The values of a generated weight, the same for the same seed. `width`: columns of the rotary tables. */
export function valuesOf(
  { dims, dtype, fill, bits = 0 }: WeightShape,
  { width, seed }: { width: number; seed: string },
): Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer> {
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (dtype === "uint8") return fillIntegers(new Uint8Array(size), seedOf(seed));
  const values = new Float32Array(size);
  if (fill === "ones") return values.fill(1);
  if (fill === "random") return fillRandom(values, seedOf(seed));
  if (fill === "scales") return scalesOf(values, { bits, seed: seedOf(seed) });
  return values.map((_, at) => {
    const angle = Math.floor(at / width) / ROTARY_BASE ** ((at % width) / width);
    return fill === "cos" ? Math.cos(angle) : Math.sin(angle);
  });
}

/** values += down · up, about a tenth of their size. */
export function addLowRank(
  values: Float32Array,
  { dims: [rows, columns], seed }: { dims: [number, number]; seed: string },
): void {
  const down = fillRandom(new Float32Array(rows * LORA_RANK), seedOf(seed));
  const up = fillRandom(new Float32Array(LORA_RANK * columns), seedOf(seed) + 1);
  for (let row = 0; row < rows; row++) {
    const change = new Float64Array(columns);
    for (let rank = 0; rank < LORA_RANK; rank++) {
      const factor = down[row * LORA_RANK + rank]!;
      for (let column = 0; column < columns; column++) change[column]! += factor * up[rank * columns + column]!;
    }
    for (let column = 0; column < columns; column++) values[row * columns + column]! += change[column]!;
  }
}

export async function writeAll(file: FileHandle, { buffer }: { buffer: ArrayBuffer }, offset: number): Promise<void> {
  const bytes = new Uint8Array(buffer);
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }
}

/** Uniform in ±0.05: after 30 layers the hidden state is no longer what the embedding gave, and nothing overflows. */
function fillRandom(values: Float32Array<ArrayBuffer>, seed: number): Float32Array<ArrayBuffer> {
  const next = randomFractions(seed);
  for (let at = 0; at < values.length; at++) values[at] = (next() - 0.5) * 2 * LARGEST;
  return values;
}

/** 1 to 255: without 0 the integers lie evenly around their middle, and so do pairs of four bits nearly. */
function fillIntegers(values: Uint8Array<ArrayBuffer>, seed: number): Uint8Array<ArrayBuffer> {
  const next = randomFractions(seed);
  for (let at = 0; at < values.length; at++) values[at] = 1 + Math.floor(next() * 255);
  return values;
}

/** One step of the integers, a tenth more or less, rounded to float16: formats that keep scales so have the same. */
function scalesOf(values: Float32Array<ArrayBuffer>, { bits, seed }: { bits: number; seed: number }) {
  const step = LARGEST / 2 ** (bits - 1);
  const next = randomFractions(seed);
  return values.map(() => halfToFloat(floatToHalf(step * (0.9 + 0.2 * next()))));
}

function randomFractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function seedOf(text: string): number {
  let seed = 2166136261;
  for (const character of text) seed = Math.imul(seed ^ character.charCodeAt(0), 16777619) >>> 0;
  return seed;
}
